"""What looks into the folders that installs fill: the session's bus, systemd, fontconfig, the reader of info pages."""

from builder import Recipe, System

system = System(
    name="desktops",
    version="12.15",
    about="the readers of what installs put into a user's folders",
    packages=(
        *("bash", "coreutils", "dash", "dbus-bin", "dbus-daemon", "desktop-file-utils", "fontconfig", "info"),
        *("shared-mime-info", "systemd"),
    ),
    exclude=("adduser", "debconf", "dpkg", "login", "mount", "passwd", "sensible-utils", "sysvinit-utils", "tzdata"),
)

PROGRAMS = ("dbus-daemon", "dbus-send", "desktop-file-validate", "fc-list", "info", "systemd-analyze", "update-mime-database")

recipe = Recipe(
    name="readers",
    version="1",
    about="reads what is installed for a user; and a font",
    inputs=(system,),
    script="""
        mkdir -p "$OUT$PREFIX/bin"
        install -D -t "$OUT$PREFIX/fonts" /usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf
        for name in """
    + " ".join(PROGRAMS)
    + """; do cp "$(command -v $name)" "$OUT$PREFIX/bin/$name"; done
    """,
)
