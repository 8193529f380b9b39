"""embed.py OUTPUT DEPFILE FOLDER: the C source with the files of FOLDER/assets.def as bytes. They
are written as numbers, so that nothing in them needs quoting."""

import re
import sys
from pathlib import Path

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def read_table(table):
    lines = [line for line in table.read_text().splitlines() if line and not line.startswith("//")]
    rows = [re.fullmatch(r'ASSET\("(/ui/[a-z._-]+)", "([a-z._-]+)"\)', line) for line in lines]
    if not all(rows):
        sys.exit(f"{table}: not understood: {lines[rows.index(None)]}")
    return [row.groups() for row in rows]


def main(output, depfile, folder):
    table = Path(folder) / "assets.def"
    rows = read_table(table)
    text, entries = '#include "services/gateway/ui.h"\n', ""
    for n, (path, name) in enumerate(rows):
        file = Path(folder) / name
        data = file.read_bytes()
        numbers = ",\n".join(",".join(map(str, data[i:i + 24])) for i in range(0, len(data), 24))
        text += f"\nstatic const unsigned char asset_{n}[] = {{\n{numbers}}};\n"
        entries += f'    {{"{path}", "{TYPES[file.suffix]}", asset_{n}, sizeof asset_{n}}},\n'
    text += f"\nconst struct ui_asset ui_assets[] = {{\n{entries}    {{0}},\n}};\n"
    Path(output).write_text(text)
    files = [table] + [table.parent / name for _, name in rows]
    inputs = " ".join(str(f).replace(" ", "\\ ") for f in files)
    Path(depfile).write_text(f"{output}: {inputs}\n")


main(*sys.argv[1:])
