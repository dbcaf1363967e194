"""Debian's packages of what the tests of remotes start: nginx with WebDAV, OpenSSH with its client, and bubblewrap."""

from builder import System

recipe = System(
    name="daemons",
    version="12.15",
    about="servers that the tests of remotes push to",
    packages=("bubblewrap", "coreutils", "dash", "libnginx-mod-http-dav-ext", "nginx", "openssh-client", "openssh-server"),
    exclude=(
        *("adduser", "debconf", "dpkg", "init-system-helpers", "iproute2", "login", "lsb-base", "mount", "passwd", "procps"),
        *("sensible-utils", "sysvinit-utils", "tzdata", "ucf"),
    ),
)
