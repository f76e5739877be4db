"""Every error of ours: what raises it stands beside its name. Messages say what happened, what was expected and what to do."""


class BonesError(Exception):
    """A fault that the user can mend; `scripts.command` turns it into one line and exit status 1."""


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


class MissingPackageError(BonesError):
    """An optional package that is not there; the message names it, what needs it, and how to install it."""


class RunError(BonesError):
    """A fault of a run folder; the message names the file, says what was expected and what to do."""


class HeatmapError(BonesError):
    """A network or data that no map can be had for; the message says what was expected."""


class ExportError(BonesError):
    """An export that cannot be made or is wrong; the message says what was expected and what to do."""


class BenchmarkError(BonesError):
    """An engine that stopped before it answered."""
