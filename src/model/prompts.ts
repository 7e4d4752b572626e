import type { ModelConfig } from "./config.ts";

export interface PromptOptions {
  /** Put before every text, as some models want it: "query: ". Default: the model's own default prompt, if it has one. */
  readonly prompt?: string;
  /** The name of one of the model's `config.prompts` to put before every text. */
  readonly promptName?: string;
}

/**
 * What is put before every text: of the options, or of the model.
 * @throws RangeError for a name that the model does not have
 */
export function promptOf(
  { prompts = {}, defaultPrompt }: ModelConfig,
  { prompt, promptName = defaultPrompt }: PromptOptions = {},
): string {
  if (prompt !== undefined) return prompt;
  if (promptName === undefined) return "";
  if (Object.hasOwn(prompts, promptName)) return prompts[promptName]!;
  const names = Object.keys(prompts).join(", ") || "none";
  throw new RangeError(`promptName "${promptName}": the model has ${names}`);
}
