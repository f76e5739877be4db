"""A web page for one study: drop its views, and read each view's probability and heat map and the study's decision.

    python app.py runs/NAME                       http://127.0.0.1:7860, for this machine alone
    python app.py runs/NAME --host 0.0.0.0        for everyone who reaches this machine

Views are decoded and checked as model_test.py does, and removed as soon as they are answered. The page fetches nothing from
outside. This is research software, not a medical device.
Exit status: 0 stopped by Ctrl-C; 1 a fault of checkpoint, address or packages; 2 a wrong command line.
"""

import argparse
import base64
import contextlib
import html
import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    from bones.system import scripts as interrupts

    interrupts.quit_at_once()

from bones.runs import checkpoints
from bones.system import backend

backend.choose()  # not OpenVINO, which has no gradients for the maps

import numpy as np
import pandas as pd
from PIL import Image  # pictures for the page

from bones.data import images
from bones.data.phantoms import sets as phantom
from bones.evaluation import heatmaps as heatmap
from bones.evaluation import named_studies as studies
from bones.networks.acceleration import speed_up
from bones.runs.folder import RunFolder
from bones.scores.text import as_text
from bones.system import backend
from bones.system.errors import HeatmapError, MissingPackageError, RunError
from bones.system.files import printable

MOST_VIEWS = 12  # of one study; MURA's largest has 13, most have 2 or 3
LARGEST = "50mb"  # of one file, refused while it arrives
WAITING = 100  # requests that may wait for their turn
UPLOADS = "uploads"  # folder that they lie in until they are answered
PATIENCE = 600  # seconds; a request that waits longer finds its views gone
ROOM = 2e9  # bytes that uploads may take together; beyond that new ones are refused
SIDE = 560  # pixels of a film on the page, at most
EXAMPLES = {"Example: displaced fracture": "displaced", "Example: plate and screws": "plate", "Example: normal": None}
EXAMPLE_FILMS = {"size": 256, "severity": 4.0, "zoom": 2.0, "seed": 3}  # as plain as those of the demo
# What a browser may load for the page: nothing from elsewhere, whatever Gradio's own page asks for.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: wss: data: blob:; "
    "frame-ancestors 'self'; form-action 'self'"
)
STYLE = """
.views {display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.5rem; margin: 1rem 0}
.views figure {margin: 0}
.pictures {display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .4rem}
.pictures img {width: 100%; height: auto; border-radius: 4px}
.pictures span {font-size: .8rem}
.decision {font-size: 1.5rem; font-weight: 600; margin: .25rem 0}
.fault {border-left: 4px solid #b00020; padding: .25rem .75rem}
.note {border-left: 4px solid #b26a00; padding: .25rem .75rem}
.scale img {width: 100%; max-width: 22rem; height: .9rem; display: block}
.scale span {display: flex; justify-content: space-between; max-width: 22rem; font-size: .85rem}
"""


def main(argv=None):
    """Serve as the command line says; returns the exit status."""
    options = parse_options(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="bone-page-") as folder:
            gradio = load_gradio(os.path.join(folder, UPLOADS))
            page = Page(RunFolder.open(options.run))
            serve(gradio, page, options, Path(folder))
    except (RunError, HeatmapError, MissingPackageError, OSError) as fault:
        print(f"app.py: {fault}", file=sys.stderr)
        return 1
    return 0


def parse_options(argv):
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN", help="run folder that mura.py made")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 is all of this machine's (default %(default)s)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen at (default %(default)s)")
    options = parser.parse_args(argv)
    if not 1 <= options.port <= 65535:
        parser.error(f"--port {options.port} is not between 1 and 65535")
    return options


def load_gradio(folder):
    """Gradio, told before it is imported to report nothing to anyone, and to keep uploads in a folder."""
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    return backend.need("gradio", "app.py")


# ---------------------------------------------------------------------------------------------------------------------
# Answers


class Page:
    """A run's network and what the page says of it."""

    def __init__(self, run):
        self.settings = run.settings()
        self.study_types = ", ".join(self.settings["options"]["study_type"])
        network = checkpoints.load_network(run)
        # One view at a time: for studies of two views and of three, the network would be compiled twice.
        self.find_maps, self.network = heatmap.mapper(network, batch_size=1), speed_up(network)
        self.about = about(run, self.settings)

    def answer(self, paths):
        """HTML on the views of one study; a readable fault where they cannot be called."""
        if len(paths) > MOST_VIEWS:
            return fault(f"{len(paths)} files: expected the views of one study, {MOST_VIEWS} at most. Drop fewer.")
        views = pd.DataFrame({"path": paths, "study": "the one of this request"})
        ((study, pixels),) = studies.call(views, self.settings, self.network, batch_size=1)
        bad = study[study["fault"] != ""]
        if len(bad):
            reasons = "; ".join(
                f"{shown_name(path)}: {reason.rstrip('.')}" for path, reason in zip(bad["path"], bad["fault"], strict=True)
            )
            return fault(f"Not called. {reasons}. Expected .png, .jpg or .dcm films; drop the study again without these.")
        maps = self.find_maps(pixels)
        tops = heatmap.scale_tops(maps)
        films = [
            figure(row, {kind: values[place] for kind, values in maps.items()}, tops, self.settings["options"]["resize"])
            for place, row in enumerate(study.itertuples())
        ]
        return f"{self.verdict(study)}<div class='views'>{''.join(films)}</div>{scale(tops)}{self.about}"

    def verdict(self, study):
        """The study's decision and where it comes from."""
        mean, threshold, count = study["study_probability"].iloc[0], self.settings["threshold"], len(study)
        source = f"the mean of its {count} views" if count > 1 else "that of its one view"
        return (
            f"<p class='decision' role='alert'>{study['decision'].iloc[0]}: probability of abnormal {mean:.3f}</p>"
            f"<p>It is {source}. Positive is {threshold:.3f} or more, the threshold fitted on the run's tuning studies.</p>"
        )


def about(run, settings):
    """What the numbers mean, and what they do not: HTML from the run's own scores."""
    lines = []
    if settings["data"].get("phantom"):
        lines.append(
            "<b>This network was trained on phantoms (drawn films): what it says of a patient's film means nothing.</b>"
        )
    try:
        scored = run.read_json("scores.json")
        study = scored["studies"]
        lines.append(
            f"On the {scored['split']} studies of {html.escape(Path(scored['data']).name)} ({study['count']}, of which "
            f"{study['positive']} abnormal) it called {as_text(study['sensitivity'])} of the abnormal and "
            f"{as_text(study['specificity'])} of the normal ones rightly, [95 % interval]."
        )
    except (RunError, KeyError, TypeError):
        lines.append("Nobody has scored this network on held-out studies yet (model_test.py), so nobody knows how good it is.")
    lines.append(
        "A probability holds for studies as common in abnormality, and films as taken, as those that the network learned from. "
        "Colours show what spoke for “abnormal”, not where an injury ends; a low number does not rule one out."
    )
    lines.append("Research only, not a medical device.")
    return "".join(f"<p class='note'>{line}</p>" for line in lines)


def fault(message):
    """A fault as HTML; file names in it may hold anything."""
    return f"<p class='fault' role='alert'>{html.escape(message)}</p>"


def shown_name(path):
    """A file's own name, in one line."""
    return printable(Path(path).name)


def figure(row, maps, tops, resize):
    """One view beside its maps, as HTML."""
    film = images.shrink(images.read_grey(row.path), SIDE)
    pictures = {"the film": np.repeat(np.asarray(film)[..., None], 3, axis=2)}
    pictures |= {kind: heatmap.overlay(film, values, tops[kind], resize) for kind, values in maps.items()}
    name = html.escape(shown_name(row.path), quote=True)
    shown = "".join(
        f"<div><img src='{as_url(picture)}' alt='{name}, {kind}'><span>{kind}</span></div>"
        for kind, picture in pictures.items()
    )
    return f"<figure><figcaption>{name}: {row.probability:.3f}</figcaption><div class='pictures'>{shown}</div></figure>"


def scale(tops):
    """The colours of the maps, as HTML."""
    ramp = np.repeat(heatmap.COLOURS(np.linspace(0, 1, 256))[None, :, :3], 8, axis=0)
    meaning = "<br>".join(html.escape(line) for line in heatmap.describe_scale(tops).split("\n"))
    return (
        f"<div class='scale'><img src='{as_url(np.uint8(255 * ramp))}' alt='Colours from black over red to yellow'>"
        f"<span><span>0</span><span>1</span></span><small>{meaning}</small></div>"
    )


def as_url(picture):
    """A picture, (height, width, 3) uint8, within the page itself: nothing is stored."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


# ---------------------------------------------------------------------------------------------------------------------
# The page


def draw_examples(folder):
    """Phantom studies for those who have none at hand. Returns: {button text: [paths]}."""
    found = {}
    for number, (text, kind) in enumerate(EXAMPLES.items(), start=1):
        rows = phantom.draw_study(folder, "valid", number, 1, int(kind is not None), kind, **EXAMPLE_FILMS)
        found[text] = [str(folder / row[0]) for row in rows]
    return found


def upload_box(gradio, **options):
    """A gradio.File that gives [path], and whose files are nobody else's.

    Gradio's own keeps an empty file more for each upload, and names an upload by its content: one file for equal films of two
    visitors, which would be gone for the second when the first is answered.
    """
    from gradio import route_utils

    class Apart(route_utils.GradioUploadFile):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.sha.update(os.urandom(32))

    route_utils.GradioUploadFile = Apart
    box = gradio.File(**options)
    box.preprocess = lambda payload: [file.path for file in payload.root]  # a class of our own would have Gradio write app.pyi
    return box


def build(gradio, page, examples):
    """The page as gradio.Blocks."""
    fonts = ["system-ui", "sans-serif"]  # nothing is fetched
    theme = gradio.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])

    def answer_upload(paths):
        try:
            return page.answer(paths), None
        finally:
            for path in paths:
                shutil.rmtree(Path(path).parent, ignore_errors=True)

    with gradio.Blocks(title="Bone abnormality in one study", analytics_enabled=False) as blocks:
        gradio.Markdown(
            "# Is this study abnormal?\n"
            f"By a network that was trained on {page.study_types}. Drop all views of **one** study (.png, .jpg, .dcm; "
            f"{MOST_VIEWS} at most), or try an example. "
            "**Research only, not a medical device.**"
        )
        with gradio.Row():
            kinds = [".png", ".jpg", ".jpeg", ".dcm"]
            upload = upload_box(gradio, file_count="multiple", file_types=kinds, label="Views of one study", height=150)
            with gradio.Column():
                buttons = {text: gradio.Button(text, size="sm") for text in examples}
        answer = gradio.HTML(label="Answer", elem_id="answer")
        # One at a time: a network computes on all cores, and its memory is that of one study.
        upload.upload(answer_upload, upload, [answer, upload], api_name="call", concurrency_id="network", concurrency_limit=1)
        for text, paths in examples.items():
            buttons[text].click(
                lambda paths=paths: page.answer(paths),
                None,
                answer,
                api_visibility="private",
                concurrency_id="network",
            )
    return blocks.queue(max_size=WAITING), theme


def serve(gradio, page, options, folder):
    """Show the page until Ctrl-C or SIGTERM."""
    from starlette.middleware import Middleware

    examples = draw_examples(folder / "examples")
    page.answer(next(iter(examples.values())))  # the first answer compiles the network: not for a visitor to wait for
    blocks, theme = build(gradio, page, examples)
    try:
        blocks.launch(
            server_name=options.host,
            server_port=options.port,
            max_file_size=LARGEST,
            app_kwargs={"middleware": [Middleware(Guarded, uploads=folder / UPLOADS)]},
            theme=theme,
            css=STYLE,
            share=False,
            ssr_mode=False,
            run_history=False,
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError:
        raise RunError(
            f"{options.host}:{options.port} is taken, or is no address of this machine. Pass another --port or --host."
        ) from None
    print(f"http://{options.host}:{options.port}  (Ctrl-C stops it)", flush=True)
    if options.host not in ("127.0.0.1", "localhost", "::1"):
        print(
            "Everyone who reaches this machine reaches the page: it asks for no password and does not encrypt.", file=sys.stderr
        )
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(60)
            sweep(folder / UPLOADS)
    blocks.close(verbose=False)
    print("Stopped.")


def sweep(folder):
    """Remove uploads that nobody asked an answer for, or that were refused: they are older than PATIENCE."""
    for path in folder.glob("*"):
        if time.time() - path.stat().st_mtime > PATIENCE:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def is_full(folder):
    """Whether uploads take as much room as they may."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) > ROOM


class Guarded:
    """ASGI middleware that adds POLICY to every answer, and refuses uploads where there is no room for more."""

    def __init__(self, app, uploads):
        self.app, self.uploads = app, uploads

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"].endswith("/upload") and is_full(self.uploads):
            await send({"type": "http.response.start", "status": 507, "headers": []})
            await send({"type": "http.response.body", "body": b"No room for more films; try again in ten minutes."})
            return

        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)


if __name__ == "__main__":
    status = interrupts.run(main)
    sys.stdout.flush()
    os._exit(status)  # not sys.exit: the end of the interpreter would crash a thread that is still answering
