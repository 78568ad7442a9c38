"""What both web pages of the package need to be served: a socket to listen at."""

import socket

from megadance_hf.modeling.errors_megadance import reason_of

_TRIED = 100  # ports, where none is given


def listen(host: str, port: int | None, first_port: int) -> socket.socket:
    """A listening socket: at `port`, or the first free one from `first_port` on.

    Raises:
        OSError: with the reason alone, for a sentence: the port is taken, or host or port do not exist.
    """
    reason = "ports are numbers from 1 to 65535"
    for number in [port] if port is not None else range(first_port, first_port + _TRIED):
        if not 1 <= number <= 65535:
            break  # getaddrinfo would count on from 0
        try:
            family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), number, type=socket.SOCK_STREAM)[0]
        except (OSError, UnicodeError) as error:
            reason = reason_of(error)
            break
        found = socket.socket(family, kind)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(1024)
            return found
        except OSError as error:
            found.close()
            reason = reason_of(error)
    raise OSError(reason)
