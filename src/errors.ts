/**
 * Every error that a file, a folder or a download can end in. Whatever bytes come, it is one of these, or a `RangeError`
 * that names the size which is out of bounds.
 */
export const ERRORS = ["FormatError", "FileError", "HubError", "UsageError"] as const;

/** A file whose bytes break their format: a corrupt checkpoint, a tensor of the wrong shape, a malformed table. */
export class FormatError extends Error {
  override name = "FormatError";
}

/** A file that the system does not give or take: absent, a folder, not readable, a full disk. */
export class FileError extends Error {
  override name = "FileError";
}

/** A model that a hub does not give: unknown, private, offline, or damaged on its way. */
export class HubError extends Error {
  override name = "HubError";
}

/** A command line that asks for something impossible; the command ends with exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
}
