"""What reads and stores images elsewhere, as launchers: skopeo, umoci, a registry; and what unpacks archives."""

from builder import Recipe, System

system = System(
    name="images",
    version="12.15",
    about="the tools of others that the tests hand exports to",
    packages=("bash", "bubblewrap", "busybox", "coreutils", "dash", "docker-registry", "skopeo", "tar", "umoci", "zstd"),
    exclude=("adduser", "debconf", "dpkg", "login", "mount", "passwd", "sensible-utils", "sysvinit-utils", "tzdata"),
)

PROGRAMS = ("bwrap", "busybox", "docker-registry", "skopeo", "tar", "umoci", "zstd")

recipe = Recipe(
    name="image-tools",
    version="1",
    about="reads, stores and unpacks images and archives",
    inputs=(system,),
    script="""
        mkdir -p "$OUT$PREFIX/bin"
        for name in """
    + " ".join(PROGRAMS)
    + """; do cp "$(command -v $name)" "$OUT$PREFIX/bin/$name"; done
    """,
)
