// Builds each page of src/pages into dist/PAGE.js (one classic script) and dist/PAGE.css.
import { readdir, readFile, rm } from "node:fs/promises";
import { build } from "vite";

const pages = (await readdir("src/pages")).map((file) => file.replace(/\.ts$/, ""));

await rm("dist", { recursive: true, force: true });
for (const page of pages) {
  await build({
    configFile: false,
    logLevel: "warn",
    build: {
      target: "es2022",
      outDir: "dist",
      emptyOutDir: false,
      reportCompressedSize: false,
      lib: {
        entry: `src/pages/${page}.ts`,
        name: "insitu",
        formats: ["iife"],
        fileName: () => `${page}.js`,
        cssFileName: page,
      },
    },
  });
  for (const [file, closing] of [
    [`dist/${page}.js`, "</script"],
    [`dist/${page}.css`, "</style"],
  ]) {
    // The page carries the file inside this element, where nothing may end it early.
    if ((await readFile(file, "utf8")).toLowerCase().includes(closing))
      throw new Error(`${file} contains ${closing}`);
  }
}
