"""Export a run's network to files for other runtimes, each compared with Keras before it is installed.

    python export.py runs/NAME                                         ONNX: runs/NAME/export/best.onnx
    python export.py runs/NAME --format onnx litert openvino           several formats
    python export.py runs/NAME --format litert_int8 --out bone.tflite  another path

The input "grey" is (n, size, size, 1) float32 pixels of 0 to 255, for any n. The output "probability", (n, 1), is that of
model_test.py for each view: scaling, flip averaging and temperature are in the graph. The metadata contains threshold, study
types and the resizing method. Each file is loaded again from disk with its own runtime and compared with Keras in float32 on up
to 32 views; a file that differs by more than the limit of its format (bones/serving/formats.py) is not kept.
This is research software, not a medical device.
Exit status: 0 done; 1 an error of run, data or export, or a missing package; 2 a wrong command line.
"""

import sys

from bones.data import source
from bones.serving.formats import FORMATS
from bones.system import scripts


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    options = parse_options(argv)
    with scripts.importing(preferred="tensorflow"):  # the only backend that writes all formats
        from bones.runs.folder import RunFolder
        from bones.serving import export
    export.export_run(RunFolder.open(options.run), options.format, options.out, options.source)


def parse_options(argv):
    """Parse and check the command line."""
    parser = scripts.parser(__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder of mura.py")
    parser.add_argument(
        "--format", nargs="+", default=["onnx"], choices=FORMATS, help="one or more of %(choices)s (default: onnx)"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="path of the file, for one format (default: export/best.onnx etc. in the run folder)"
    )
    parser.add_argument(
        "--data", metavar="ROOT", help="data root with the views to compare on (default: the run's training data)"
    )
    source.add_options(parser)
    options = parser.parse_args(argv)
    data = [options.data] if options.data else None
    options.source = source.of_options(parser, data, options.table, options.layout, options.positive)
    options.format = list(dict.fromkeys(options.format))
    if options.out and len(options.format) > 1:
        parser.error(f"--out takes one format, and --format names {len(options.format)}.")
    suffix = FORMATS[options.format[0]].suffixes[0]
    if options.out and not options.out.endswith(suffix):
        parser.error(f"--out {options.out}: a file of {options.format[0]} ends in {suffix}.")
    return options


if __name__ == "__main__":
    sys.exit(scripts.run(main))
