/** A file whose bytes break their format: a corrupt checkpoint, a tensor of the wrong shape, a malformed table. */
export class FormatError extends Error {
  override name = "FormatError";
}

/** A command line that asks for something impossible; the command ends with exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
}
