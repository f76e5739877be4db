"""All exceptions of this repository. Messages say what happened, what was expected and what to do."""

MAX_MESSAGE = 300  # most characters of a library's message in ours


def short_message(error):
    """The first line of another library's exception, cut at MAX_MESSAGE characters."""
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return first if len(first) <= MAX_MESSAGE else f"{first[:MAX_MESSAGE]}..."


class BonesError(Exception):
    """An error that the user can correct; `scripts.command` turns it into one line and the exit status."""

    exit_status = 1


class UsageError(BonesError):
    """Options that are incompatible on this machine, which parsing cannot detect."""

    exit_status = 2


class DataError(BonesError):
    """An error in the data that the user can correct; the message names it, says what was expected and what to do."""


class UnreadableImageError(DataError):
    """An image file that cannot be decoded; the message is the reason, without the path."""


class NotARadiographError(UnreadableImageError):
    """A file that holds something else, such as a report; the message says what, and the study is classified without it."""


class DicomError(BonesError, ValueError):
    """A DICOM file that cannot be read; the message is the reason, and quotes nothing of the file."""


class PhantomError(BonesError):
    """A phantom set that cannot be drawn or used; the message says what to do."""


class WeightsError(BonesError):
    """Starting weights that cannot be downloaded, read, or fitted to the network."""


class DevicesError(BonesError):
    """Devices that are missing or cannot train together; the message says what to do."""


class HostsError(BonesError):
    """Hosts that cannot train together; the message says what to do."""


class FileError(BonesError):
    """A file that cannot be read or written, or has unexpected content; the message names it."""


class MissingPackageError(BonesError):
    """A package, or a backend of Keras, that is not installed; the message says what needs it, and how to install it."""


class RunError(BonesError):
    """An error in a run folder; the message names the file, says what was expected and what to do."""


class HeatmapError(BonesError):
    """A network or data for which no heat map can be computed; the message says what was expected."""


class ExportError(BonesError):
    """An export that cannot be made or is wrong; the message says what was expected and what to do."""


class BenchmarkError(BonesError):
    """A benchmark process that failed: an engine that stopped before it answered, or a stage that did not end."""


class NotFiniteError(BonesError, FloatingPointError):
    """A loss or a probability that is NaN or infinite; the message says what to try."""


class DeviceMemoryError(BonesError):
    """The device ran out of memory; the message says what to try."""


class PageError(BonesError):
    """A web page that cannot be shown at the address that was asked for."""
