import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { defineConfig } from "vite";

const OUT = process.env.VIEWER_OUT ?? "built";

/** Compresses each file once, so that the node need not do it for each request. */
function compressed() {
  return {
    name: "compressed",
    closeBundle() {
      for (const file of readdirSync(join(OUT, "assets"))) {
        const content = readFileSync(join(OUT, "assets", file));
        writeFileSync(join(OUT, "assets", `${file}.br`), brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }));
        writeFileSync(join(OUT, "assets", `${file}.gz`), gzipSync(content, { level: 9 }));
      }
    },
  };
}

/** Lets cornerstone set styles in a way that the Content-Security-Policy allows. */
function withoutInlineStyle() {
  const before = "textElement.setAttribute('style', combinedStyle)";
  return {
    name: "without-inline-style",
    transform(code, id) {
      if (!id.endsWith("/drawingSvg/drawTextBox.js")) return null;
      if (!code.includes(before)) throw new Error("drawTextBox.js of cornerstone has changed: does it set styles inline?");
      return code.replace(before, "textElement.style.cssText = combinedStyle");
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [withoutInlineStyle(), compressed()],
  worker: { format: "es" },
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 8000,
    reportCompressedSize: false,
  },
});
