import type { NextConfig } from "next";

const config: NextConfig = {
  // The Dockerfile asks for it: a server with all that it needs, without which `next start` would do.
  output: process.env.NEXT_OUTPUT === "standalone" ? "standalone" : undefined,
  poweredByHeader: false,
  devIndicators: false,
  turbopack: { root: import.meta.dirname },
};

export default config;
