/** What we call of autocannon, which has no types. */
declare module "autocannon" {
  import type { EventEmitter } from "node:events";

  /** A run, which is done when it is awaited. */
  interface Run extends EventEmitter, PromiseLike<unknown> {
    on(
      event: "response",
      listener: (client: unknown, status: number, bytes: number, milliseconds: number) => void,
    ): this;
    on(event: "reqError", listener: (error: Error) => void): this;
  }
  export default function autocannon(options: {
    readonly url: string;
    readonly connections: number;
    /** Seconds. */
    readonly duration: number;
    readonly method: "POST";
    readonly headers: Readonly<Record<string, string>>;
    readonly body: string;
  }): Run;
}
