// Take from style sheets what matches no word of the pages: node purge.cjs FILE..., words on stdin.
const fs = require("fs");
const { PurgeCSS } = require("purgecss");

const raw = fs.readFileSync(0, "utf8");
new PurgeCSS()
  .purge({ content: [{ raw, extension: "txt" }], css: process.argv.slice(2) })
  .then((sheets) => sheets.forEach(({ css, file }) => fs.writeFileSync(file, css)));
