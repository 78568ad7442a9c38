"""The connection to the Hub: whether there is one, and what the Hub refuses, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import get_session, validate_repo_id

from megadance_hf.modeling.errors_megadance import reason_of


class HubError(ValueError):
    """Something cannot be saved for or uploaded to the Hub; the message is one line with the value and the remedy."""


def check_hub(repo: str, token: str | bool | None = None) -> None:
    """Check that the Hub can be reached and accepts our token; for callers that want to know before anything slow.

    Raises:
        HubError: it cannot, or it does not, or a repository cannot have that name.
    """
    try:
        validate_repo_id(repo)
        api = HfApi(token=token)
        try:
            api.whoami()
        except LocalTokenNotFoundError:  # raised before the network was asked: is there one?
            get_session().get(f"{api.endpoint}/api/whoami-v2", timeout=20)
            raise
    except HFValidationError as error:
        raise HubError(f"repo={repo!r} is no name of a repository ({reason_of(error)}): give OWNER/NAME") from error
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        raise HubError(
            f"repo={repo!r}: the Hub does not know you ({reason_of(error)}); log in with `hf auth login`"
        ) from error
    except (HTTPError, OfflineModeIsEnabled, OSError, RuntimeError) as error:
        raise HubError(
            f"repo={repo!r}: the Hub cannot be reached ({reason_of(error)}); nothing was done: connect this machine, and unset "
            "HF_HUB_OFFLINE where it is set"
        ) from error


@contextmanager
def one_line_refusals(repo: str, error: type[ValueError] = HubError) -> Iterator[None]:
    """What the Hub or the connection refuses in this block is raised as `error`, in one line."""
    try:
        yield
    except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled, OSError, RuntimeError, ValueError) as refusal:
        reason = " ".join(str(refusal).split())
        # a ValueError is about the card's metadata or the repository's name
        remedy = "" if isinstance(refusal, ValueError) else "; log in with `hf auth login`"
        raise error(f"repo={repo!r}: the Hub did not take it ({reason}){remedy}") from refusal
