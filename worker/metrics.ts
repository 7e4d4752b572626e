/**
 * Counters in Prometheus' text format under the names of text-embeddings-inference. They are those of one isolate since it
 * started: a Worker has many, and where it is deployed its clock stands still while it computes.
 */
export class Metrics {
  readonly #counters = new Map<string, number>();
  readonly #histograms = {
    te_request_duration: new Histogram([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]),
    te_request_input_length: new Histogram([8, 16, 32, 64, 128, 256, 512]),
  };

  /** Counts an answer to a route: `error` is TEI's type of what went wrong. */
  request(route: string, seconds: number, error: string | undefined): void {
    this.#add(`te_request_count{method="${route}"}`);
    if (error === undefined) this.#add(`te_request_success{method="${route}"}`);
    else this.#add(`te_request_failure{err="${error.toLowerCase()}"}`);
    this.#histograms.te_request_duration.add(seconds);
  }

  /** Counts the tokens of a text. */
  text(tokens: number): void {
    this.#histograms.te_request_input_length.add(tokens);
  }

  /** The page that Prometheus reads. `working` is how many requests are being worked on. */
  print(working: number): string {
    const counters = ["te_request_count", "te_request_success", "te_request_failure"].flatMap(
      (name) => [
        `# TYPE ${name} counter`,
        ...Array.from(this.#counters)
          .filter(([key]) => key.startsWith(`${name}{`))
          .map(([key, value]) => `${key} ${value}`),
      ],
    );
    const histograms = Object.entries(this.#histograms).flatMap(([name, histogram]) =>
      histogram.print(name),
    );
    return [
      ...counters,
      ...histograms,
      "# TYPE te_queue_size gauge",
      `te_queue_size ${working}`,
      "",
    ].join("\n");
  }

  #add(key: string): void {
    this.#counters.set(key, (this.#counters.get(key) ?? 0) + 1);
  }
}

class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = bounds.map(() => 0);
  }

  add(value: number): void {
    this.#bounds.forEach((bound, i) => {
      if (value <= bound) this.#counts[i]!++;
    });
    this.#sum += value;
    this.#count++;
  }

  print(name: string): string[] {
    return [
      `# TYPE ${name} histogram`,
      ...this.#bounds.map((bound, i) => `${name}_bucket{le="${bound}"} ${this.#counts[i]}`),
      `${name}_bucket{le="+Inf"} ${this.#count}`,
      `${name}_sum ${this.#sum}`,
      `${name}_count ${this.#count}`,
    ];
  }
}
