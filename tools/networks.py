"""What works with each network of the catalogue: how it is saved, its heat maps, its exports.

    python -m tools.networks docs/records/networks.csv                prints the table of docs/networks.md
    python -m tools.networks docs/records/networks.csv --measure      measures all networks that the file lacks: an hour
    python -m tools.networks docs/records/networks.csv --measure NAME measures one

A network is measured with random weights at the smallest size that it takes; the cells of LayerCAM's map are those at 320 px.
Exports are compared with Keras, as export.py does.
Exit status: 0 done; 1 an error of the file; 2 a wrong command line.
"""

import gc
import sys
import tempfile
from pathlib import Path

import pandas as pd

from bones.networks.catalogue import NETWORKS
from bones.scores.text import markdown_table
from bones.serving.formats import FORMATS
from bones.system import files, scripts

SIZE = 320  # pixels, of LayerCAM's cells
EXPORTS = ("onnx", "litert", "saved_model", "openvino")
COLUMNS = ["network", "parameters", "least_size", "saved_as", "maps", "cells", *EXPORTS]


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("file", type=Path, help="table of what was measured")
    parser.add_argument(
        "--measure", nargs="*", metavar="NAME", choices=list(NETWORKS), help="measure these, or what is missing"
    )
    options = parser.parse_args(argv)
    if options.measure is not None:
        measure_all(options.file, options.measure)
    print(markdown_table(list(rows(files.read_table(options.file, COLUMNS, "Measure it with --measure.")))))


def rows(table):
    """The rows of the page's table."""
    table = table.set_index("network").loc[[name for name in NETWORKS if name in set(table["network"])]].reset_index()
    for row in table.to_dict("records"):
        yield {
            "`--network`": f"`{row['network']}`",
            "parameters": f"{int(row['parameters']):,}",
            "least size": f"{row['least_size']} px",
            "saved as": f"`{row['saved_as']}`",
            "heat maps": row["maps"],
            f"LayerCAM's cells at {SIZE} px": f"{row['cells']} x {row['cells']}",
        } | {name: row[name] for name in EXPORTS}


def measure_all(file, names):
    """Measure networks by name, or each that a table lacks, and write the table after each."""
    with scripts.importing():
        import keras
    table = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=COLUMNS)
    for name in names or [name for name in NETWORKS if name not in set(table["network"])]:
        row = measure(name)
        print(row, flush=True)
        table = pd.concat([table[table["network"] != name], pd.DataFrame([row], columns=COLUMNS)])
        with files.whole_file(file) as partial:
            table.to_csv(partial, index=False)
        keras.backend.clear_session()
        gc.collect()


def measure(name):
    """One row of the table, see COLUMNS."""
    import numpy as np

    from bones.evaluation import heatmaps
    from bones.networks import catalogue
    from bones.networks.acceleration import accelerate, in_float32
    from bones.networks.batches import predict
    from bones.runs import checkpoints
    from bones.runs.folder import RunFolder
    from bones.training import batch_statistics

    size = NETWORKS[name].least_size
    rng = np.random.default_rng(0)
    network = with_random_statistics(catalogue.build(name, size), rng)
    pixels = rng.integers(0, 256, (32, size, size, 1), "uint8")
    batch_statistics.Averager(network).estimate(pixels)  # with other statistics, so deep a network enlarges rounding errors
    with tempfile.TemporaryDirectory() as folder:
        trained = accelerate(in_float32(network))  # a copy as mura.py trains it
        best, _ = checkpoints.tried_names(RunFolder.create(Path(folder) / "run"), trained, pixels)
        exported = {form: outcome(form, network, pixels, predict(network, pixels), Path(folder)) for form in EXPORTS}
    maps = heatmaps.map_function(network)(pixels)
    fine = heatmaps.fine_features(catalogue.build(name, SIZE))
    found = [name, network.count_params(), size, Path(best).suffix, ", ".join(maps), fine.shape[1]]
    return dict(zip(COLUMNS, found, strict=False)) | exported


def with_random_statistics(network, rng):
    """A network whose batch normalisation has random weights: a new one's predicts almost the same of all views."""
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return network


def outcome(form, network, pixels, expected, folder):
    """ "yes" where a format holds a network, else the reason."""
    from bones.serving import export
    from bones.system.errors import ExportError

    target = folder / f"best{FORMATS[form].ending}"
    try:
        export.export(FORMATS[form], export.with_calibration(network, 1.0), {"network": network.name}, target, pixels, expected)
    except ExportError as error:
        first = str(error).splitlines()[0].replace(f"{target} ", "")
        return "no: " + first.removeprefix("cannot be written (").removesuffix("); an earlier export is unchanged.")
    return "yes"


if __name__ == "__main__":
    sys.exit(scripts.run(main))
