/** Hex SHA-256. */
export async function sha256Hex(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Hex SHA-256 over the SHA-256 of each part, so that no copy of the whole is needed. */
export async function sha256HexOfParts(parts: readonly Uint8Array[]): Promise<string> {
  const sums: string[] = [];
  for (const part of parts) sums.push(await sha256Hex(part as Uint8Array<ArrayBuffer>));
  return sha256Hex(new TextEncoder().encode(sums.join("")));
}
