"""A toolchain with what programs read at run time: locales, iconv's modules, time zones, certificates; and HTTPS clients."""

from builder import System
from recipes import toolchain

recipe = System(
    name="data",
    version="12.15",
    about="what the tests of bundled data build on",
    packages=(
        *(*toolchain.essential, "gcc", "libc6-dev"),
        *("ca-certificates", "curl", "libidn2-0", "locales", "openssl", "python3", "tzdata"),
    ),
    exclude=tuple(name for name in toolchain.unused if name != "tzdata"),
    links=toolchain.links,
)
