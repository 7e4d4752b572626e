import { defineConfig, type ViteUserConfig } from "vitest/config";

const config: ViteUserConfig = defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/worker/setup.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Kernel suites are bound by the processor; more workers than cores only make their barriers sleep.
    maxWorkers: 2,
  },
});

export default config;
