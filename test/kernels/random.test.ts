import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { dropoutRow } from "../oracle/dropout.ts";
import { philox } from "../oracle/random.ts";

/** The kernel's bits are compared with these, element by element, in dropout.test.ts and attention.test.ts. */
describe("the oracle's Philox4x32-10", () => {
  it.each([
    {
      counter: [0, 0, 0, 0],
      key: [0, 0],
      words: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    },
    {
      counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      key: [0xffffffff, 0xffffffff],
      words: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    },
    {
      counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      key: [0xa4093822, 0x299f31d0],
      words: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    },
  ] as const)("gives the known answer for counter $counter", ({ counter, key, words }) => {
    expect(philox([...counter], key)).toEqual(words);
  });
});

/** Whole rows of bits, as `test/golden/make_golden.py` draws them with NumPy. */
const { dropoutBits } = JSON.parse(readFileSync("test/golden/encoder.json", "utf8")) as {
  dropoutBits: { seed: number; step: number; site: number; row: number; bits: number[] }[];
};

describe("the oracle's dropout", () => {
  it.each(dropoutBits)(
    "has all 16 bits of NumPy's, seed $seed, step $step, site $site, row $row",
    ({ bits, row, ...key }) => {
      bits.forEach((value, column) => {
        const factor = (threshold: number): number =>
          dropoutRow(row, bits.length, { ...key, rate: threshold / 65536 })[column]!;
        expect(factor(value)).toBeGreaterThan(0);
        expect(factor(value + 1)).toBe(0);
      });
    },
  );
});
