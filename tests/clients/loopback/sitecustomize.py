"""Python runs this before a client program: it may connect to this machine only."""

import socket

_connect, _connect_ex, _lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
_LOCAL = {"127.0.0.1", "::1", "localhost", None, ""}


def _check(host):
    if isinstance(host, bytes):
        host = host.decode()
    if host not in _LOCAL:
        raise OSError(f"a client program may reach loopback only, not {host}")


def _wrap(connect):
    def checked(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _check(address[0])
        return connect(self, address)

    return checked


def _checked_lookup(host, *args, **kwargs):
    _check(host)
    return _lookup(host, *args, **kwargs)


socket.socket.connect = _wrap(_connect)
socket.socket.connect_ex = _wrap(_connect_ex)
socket.getaddrinfo = _checked_lookup
