"""Programs with many libraries or much data, for tests of adopting."""

from builder import System

recipe = System(
    name="large",
    version="12.15",
    about="what is adopted by the large tests",
    packages=("ffmpeg", "ncurses-base", "vim"),
    exclude=("adduser", "debconf", "dpkg", "login", "mount", "passwd", "sensible-utils", "sysvinit-utils", "tzdata"),
    # As update-alternatives makes them.
    links={
        "usr/bin/vim": "vim.basic",
        **{f"usr/lib/x86_64-linux-gnu/lib{name}.so.3": f"{name}/lib{name}.so.3" for name in ("blas", "lapack")},
    },
)
