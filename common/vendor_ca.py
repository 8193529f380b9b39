"""vendor_ca.py OUTPUT [FILE]: the C source that defines vendor_ca_compiled_in as FILE's content.
It is written as numbers, so that nothing in it needs quoting."""

import sys
from pathlib import Path


def main(output, pem=None):
    text = '#include "common/vendor_ca.h"\n\n#include <stddef.h>\n\n'
    value = "NULL"
    if pem:
        data = Path(pem).read_bytes()
        if b"-----BEGIN CERTIFICATE-----" not in data or b"PRIVATE KEY" in data or 0 in data:
            sys.exit(f"{pem}: this is not a PEM file of certificates, and of nothing else")
        numbers = ",\n".join(",".join(map(str, data[i:i + 20])) for i in range(0, len(data), 20))
        text += f"static const char pem[] = {{\n{numbers},\n0}};\n\n"
        value = "pem"
    Path(output).write_text(f"{text}const char *const vendor_ca_compiled_in = {value};\n")


main(*sys.argv[1:])
