"""Debian programs whose start is measured: from few libraries to more than 200; and what they are wrapped with."""

from builder import System

recipe = System(
    name="bench-programs",
    version="12.15",
    about="what the benchmark of starting programs starts",
    packages=("bash", "coreutils", "dash", "ffmpeg", "gdb", "git", "openssh-client", "patchelf", "strace"),
    exclude=("adduser", "debconf", "dpkg", "login", "mount", "passwd", "sensible-utils", "sysvinit-utils", "tzdata"),
    # As update-alternatives makes them.
    links={f"usr/lib/x86_64-linux-gnu/lib{name}.so.3": f"{name}/lib{name}.so.3" for name in ("blas", "lapack")},
)
