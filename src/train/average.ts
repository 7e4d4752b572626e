/**
 * The average of models' weights, which serves as well as the average of their answers where they began as the same model
 * (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482), and between a model and what it was trained to trades what was
 * learnt for what was known (Wortsman et al. 2021, https://arxiv.org/abs/2109.01903). Layers may go beyond what was trained,
 * with a negative share of the model before (task arithmetic, Ilharco et al. 2023, https://arxiv.org/abs/2212.04089).
 */
import { FormatError } from "../errors.ts";
import { type SafetensorsTensor, toFloat32 } from "../files/safetensors.ts";
import { serializeConfig, type ModelConfig } from "../model/config.ts";

export interface AveragedModel {
  /** For errors. */
  readonly name: string;
  readonly share: number;
  /** Its share in the weights of layers, where it is another; it may be negative. */
  readonly layerShare?: number;
  readonly config: ModelConfig;
  readonly tokenizerJson: object;
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
}

/** Names of the weights of layers. */
const OF_LAYERS = /\blayer\.\d+\./u;

/**
 * Weights in proportion to the models' shares, summed in float64.
 * @throws FormatError naming a model that is quantised, or of another shape or another tokenizer than the first, or
 *   without layers where these have shares
 * @throws RangeError for shares in the layers that do not sum to more than 0
 */
export function averageWeights(
  models: readonly [AveragedModel, ...AveragedModel[]],
): Map<string, SafetensorsTensor> {
  const [first] = models;
  const total = models.reduce((sum, { share }) => sum + share, 0);
  const ofLayers = models.map(({ share, layerShare = share }) => layerShare);
  const layerTotal = ofLayers.reduce((sum, share) => sum + share, 0);
  if (!(layerTotal > 0)) {
    throw new RangeError(
      `shares ${ofLayers.join(", ")}: expected a sum above 0, found ${layerTotal}`,
    );
  }
  if (
    models.some(({ layerShare }) => layerShare !== undefined) &&
    ![...first.tensors.keys()].some((name) => OF_LAYERS.test(name))
  ) {
    throw new FormatError(
      `${first.name}: expected a model with layers, which have shares, found none`,
    );
  }
  for (const { name, config, tokenizerJson, tensors } of models) {
    if (config.dtype !== "f32") {
      throw new FormatError(`${name}: expected a model in f32, found ${config.dtype}`);
    }
    const same = (what: string, own: object, others: object): void => {
      if (JSON.stringify(own) === JSON.stringify(others)) return;
      throw new FormatError(`${name}: expected the ${what} of ${first.name}, found another`);
    };
    same("shape", serializeConfig(config), serializeConfig(first.config));
    same("tokenizer", tokenizerJson, first.tokenizerJson);
    same("weights", shapes(tensors), shapes(first.tensors));
  }
  return new Map(
    Array.from(first.tensors, ([name, { shape }]) => {
      const sum = new Float64Array(shape.reduce((product, n) => product * n, 1));
      const inLayer = OF_LAYERS.test(name);
      models.forEach(({ share, tensors }, m) => {
        const factor = inLayer ? ofLayers[m]! / layerTotal : share / total;
        toFloat32(tensors.get(name)!, name).forEach((x, i) => (sum[i]! += factor * x));
      });
      const data = new Uint8Array(Float32Array.from(sum).buffer);
      return [name, { dtype: "F32", shape, data }];
    }),
  );
}

/** Names and shapes, in the order of the names. */
function shapes(tensors: AveragedModel["tensors"]): object {
  return [...tensors.keys()].toSorted().map((name) => [name, tensors.get(name)!.shape]);
}
