#!/usr/bin/env bash
# vl-convert: the JavaScript bundle gives a page no `vega` and no `vegaLite`, and takes its names.
#
# Versions: vl-convert-python 1.9.0.post1.
# Guess: "The default snippet assigns vegaEmbed, vegaLite, and vega to the global window object",
#   says javascript_bundle, "suitable for inclusion in an HTML <script> tag".
# Happens: vegaEmbed is a function; vega and vegaLite are null, since both come as a default export
#   that those packages have not, and a snippet of one's own sees the same null. And whatever the
#   bundle declares it declares for the whole page: a later script with `const on = …` does not run.
# Seen:
#   window.vega=__default, where __default=null
#   window.vegaLite=__default1, where __default1=null
#   declared for the whole page: thousands of names, among them `on`
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet vl-convert-python==1.9.0.post1
venv/bin/python - <<'PYTHON'
import re

import vl_convert

bundle = vl_convert.javascript_bundle()
given = dict(re.findall(r"window\.(vega|vegaLite|vegaEmbed)=([\w$]+);", bundle))
for name in ("vega", "vegaLite"):
    (value,) = re.findall(rf"const {re.escape(given[name])}=(\w+);", bundle)
    print(f"window.{name}={given[name]}, where {given[name]}={value}")
    assert value == "null"
# Minified on one line at the left edge: what stands behind a closed function is the page's.
assert not bundle.lstrip().startswith(("(", "!"))
declared = set(re.findall(r"(?:^|[;}])(?:const|let|var|function|class) ([\w$]+)", bundle))
print(f"declared for the whole page: {len(declared):,} names, among them `on`: {'on' in declared}")
assert len(declared) > 1000
PYTHON
