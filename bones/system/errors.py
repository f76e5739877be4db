"""Every error of ours: what raises it stands beside its name. Messages say what happened, what was expected and what to do."""


class BonesError(Exception):
    """A fault that the user can mend; `scripts.command` turns it into one line and the exit status."""

    exit_status = 1


class UsageError(BonesError):
    """Options that do not go together on this machine, which parsing them cannot know."""

    exit_status = 2


class DataError(BonesError):
    """A fault of the data that the user can mend; the message names it, says what was expected and what to do."""


class UnreadableImageError(DataError):
    """One image file that does not decode; the message is the reason, without the path."""


class DicomError(BonesError, ValueError):
    """A DICOM file that is not read; the message is the reason, and quotes nothing of the file."""


class PhantomError(BonesError):
    """A phantom set that cannot be drawn or used; the message says what to do."""


class WeightsError(BonesError):
    """Starting weights that cannot be downloaded, read, or fitted to the network."""


class DevicesError(BonesError):
    """Devices that are not there or cannot train together; the message says what to do."""


class HostsError(BonesError):
    """Hosts that cannot train together; the message says what to do."""


class FileError(BonesError):
    """A file that cannot be read or written, or holds something else than expected; the message names it."""


class MissingPackageError(BonesError):
    """A package, or a backend of Keras, that is not there; the message says what needs it, and how to install it."""


class RunError(BonesError):
    """A fault of a run folder; the message names the file, says what was expected and what to do."""


class HeatmapError(BonesError):
    """A network or data that no map can be had for; the message says what was expected."""


class ExportError(BonesError):
    """An export that cannot be made or is wrong; the message says what was expected and what to do."""


class BenchmarkError(BonesError):
    """A process of a measurement that failed: an engine that stopped before it answered, or a stage that did not end."""


class NotFiniteError(BonesError, FloatingPointError):
    """A loss or a probability that is no number any more; the message says what to try."""


class DeviceMemoryError(BonesError):
    """Memory of the device that did not suffice; the message says what to try."""


class PageError(BonesError):
    """A web page that cannot be shown at the address that was asked for."""
