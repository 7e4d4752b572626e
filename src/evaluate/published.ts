/**
 * Scores as printed in the SimCSE paper (Gao, Yao & Chen 2021, https://arxiv.org/abs/2104.08821), to stand beside ours. A row is
 * a model and its scores in the order of the tasks, then the average that the paper prints.
 */
export type PublishedRow = readonly [model: string, scores: readonly number[]];

// prettier-ignore
/** Table 5: Spearman "all" of STS12 to STS16, STS-B and SICK-R. */
export const PUBLISHED_STS: readonly PublishedRow[] = [
  ["GloVe avg", [55.14, 70.66, 59.73, 68.25, 63.66, 58.02, 53.76, 61.32]],
  ["BERT-base first-last avg", [39.70, 59.38, 49.67, 66.03, 66.19, 53.87, 62.06, 56.70]],
  ["BERT-base-flow (NLI)", [58.40, 67.10, 60.85, 75.16, 71.22, 68.66, 64.47, 66.55]],
  ["BERT-base-whitening (NLI)", [57.83, 66.90, 60.90, 75.08, 71.31, 68.24, 63.73, 66.28]],
  ["IS-BERT-base", [56.77, 69.24, 61.21, 75.23, 70.16, 69.21, 64.25, 66.58]],
  ["CT-BERT-base", [61.63, 76.80, 68.47, 77.50, 76.48, 74.31, 69.19, 72.05]],
  ["SimCSE-BERT-base (unsupervised)", [68.40, 82.41, 74.38, 80.91, 78.56, 76.85, 72.23, 76.25]],
  ["RoBERTa-base first-last avg", [40.88, 58.74, 49.07, 65.63, 61.48, 58.55, 61.63, 56.57]],
  ["RoBERTa-base-whitening", [46.99, 63.24, 57.23, 71.36, 68.99, 61.36, 62.91, 61.73]],
  ["DeCLUTR-RoBERTa-base", [52.41, 75.19, 65.52, 77.12, 78.63, 72.41, 68.62, 69.99]],
  ["SimCSE-RoBERTa-base (unsupervised)", [70.16, 81.77, 73.24, 81.36, 80.65, 80.22, 68.56, 76.57]],
  ["SimCSE-RoBERTa-large (unsupervised)", [72.86, 83.99, 75.62, 84.77, 81.80, 81.98, 71.26, 78.90]],
  ["InferSent-GloVe", [52.86, 66.75, 62.15, 72.77, 66.87, 68.03, 65.65, 65.01]],
  ["USE", [64.49, 67.80, 64.61, 76.83, 73.18, 74.92, 76.69, 71.22]],
  ["SBERT-base", [70.97, 76.53, 73.19, 79.09, 74.30, 77.03, 72.91, 74.89]],
  ["SBERT-base-flow", [69.78, 77.27, 74.35, 82.01, 77.46, 79.12, 76.21, 76.60]],
  ["SBERT-base-whitening", [69.65, 77.57, 74.66, 82.27, 78.39, 79.52, 76.91, 77.00]],
  ["CT-SBERT-base", [74.84, 83.20, 78.07, 83.84, 77.93, 81.46, 76.42, 79.39]],
  ["SimCSE-BERT-base (supervised)", [75.30, 84.67, 80.19, 85.40, 80.82, 84.25, 80.39, 81.57]],
  ["SRoBERTa-base", [71.54, 72.49, 70.80, 78.74, 73.69, 77.77, 74.46, 74.21]],
  ["SRoBERTa-base-whitening", [70.46, 77.07, 74.46, 81.64, 76.43, 79.49, 76.65, 76.60]],
  ["SimCSE-RoBERTa-base (supervised)", [76.53, 85.21, 80.95, 86.03, 82.57, 85.83, 80.50, 82.52]],
  ["SimCSE-RoBERTa-large (supervised)", [77.46, 87.27, 82.36, 86.66, 83.93, 86.70, 81.95, 83.76]],
];

// prettier-ignore
/** Table E.1: accuracy on MR, CR, SUBJ, MPQA, SST2, TREC and MRPC. */
export const PUBLISHED_TRANSFER: readonly PublishedRow[] = [
  ["GloVe avg", [77.25, 78.30, 91.17, 87.85, 80.18, 83.00, 72.87, 81.52]],
  ["Skip-thought", [76.50, 80.10, 93.60, 87.10, 82.00, 92.20, 73.00, 83.50]],
  ["avg BERT", [78.66, 86.25, 94.37, 88.66, 84.40, 92.80, 69.54, 84.94]],
  ["BERT [CLS]", [78.68, 84.85, 94.21, 88.23, 84.13, 91.40, 71.13, 84.66]],
  ["IS-BERT", [81.09, 87.18, 94.96, 88.75, 85.96, 88.64, 74.24, 85.83]],
  ["SimCSE-BERT-base (unsupervised)", [81.18, 86.46, 94.45, 88.88, 85.50, 89.80, 74.43, 85.81]],
  ["SimCSE-BERT-base w/ MLM (unsupervised)", [82.92, 87.23, 95.71, 88.73, 86.81, 87.01, 78.07, 86.64]],
  ["SimCSE-RoBERTa-base (unsupervised)", [81.04, 87.74, 93.28, 86.94, 86.60, 84.60, 73.68, 84.84]],
  ["SimCSE-RoBERTa-base w/ MLM (unsupervised)", [83.37, 87.76, 95.05, 87.16, 89.02, 90.80, 75.13, 86.90]],
  ["SimCSE-RoBERTa-large (unsupervised)", [82.74, 87.87, 93.66, 88.22, 88.58, 92.00, 69.68, 86.11]],
  ["SimCSE-RoBERTa-large w/ MLM (unsupervised)", [84.66, 88.56, 95.43, 87.50, 89.46, 95.00, 72.41, 87.57]],
  ["InferSent", [81.57, 86.54, 92.50, 90.38, 84.18, 88.20, 75.77, 85.59]],
  ["USE", [80.09, 85.19, 93.98, 86.70, 86.38, 93.20, 70.14, 85.10]],
  ["SBERT-base", [83.64, 89.43, 94.39, 89.86, 88.96, 89.60, 76.00, 87.41]],
  ["SimCSE-BERT-base (supervised)", [82.69, 89.25, 94.81, 89.59, 87.31, 88.40, 73.51, 86.51]],
  ["SimCSE-BERT-base w/ MLM (supervised)", [82.68, 88.88, 94.52, 89.82, 88.41, 87.60, 76.12, 86.86]],
  ["SRoBERTa-base", [84.91, 90.83, 92.56, 88.75, 90.50, 88.60, 78.14, 87.76]],
  ["SimCSE-RoBERTa-base (supervised)", [84.92, 92.00, 94.11, 89.82, 91.27, 88.80, 75.65, 88.08]],
  ["SimCSE-RoBERTa-base w/ MLM (supervised)", [85.08, 91.76, 94.02, 89.72, 92.31, 91.20, 76.52, 88.66]],
  ["SimCSE-RoBERTa-large (supervised)", [88.12, 92.37, 95.11, 90.49, 92.75, 91.80, 76.64, 89.61]],
  ["SimCSE-RoBERTa-large w/ MLM (supervised)", [88.45, 92.53, 95.19, 90.58, 93.30, 93.80, 77.74, 90.23]],
];
