"""The web page's server: Gradio without external resources, with temporary uploads and limits."""

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

from bones.data.phantoms import sets as phantom
from bones.serving.page import MOST_VIEWS, STYLE, Page
from bones.system import backend, environment
from bones.system.errors import PageError

MAX_FILE_SIZE = "50mb"  # of one file; larger uploads are rejected
QUEUE_SIZE = 100  # maximum number of queued requests
UPLOADS = "uploads"  # folder of uploads until they are answered
UPLOAD_SECONDS = 600  # lifetime of an upload; a request that waits longer fails
MAX_UPLOAD_BYTES = 2e9  # total bytes of all uploads; new ones beyond that are rejected
EXAMPLES = {"Example: displaced fracture": "displaced", "Example: plate and screws": "plate", "Example: normal": None}
EXAMPLE_FILMS = {"size": 256, "severity": 4.0, "zoom": 2.0, "seed": 3}  # as easy as those of the demo
# What a browser may load for the page: nothing from other hosts, even if Gradio's page requests it.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: wss: data: blob:; "
    "frame-ancestors 'self'; form-action 'self'"
)


def load_gradio(folder):
    """Import Gradio with telemetry disabled and its uploads in `folder`."""
    environment.prepare_page(folder)
    return backend.require("gradio", "app.py")


def find_examples(run, folder):
    """Example studies: the images in the run's examples/, or phantoms drawn into `folder`. Returns: {button text: [paths]}."""
    found = {f"Example: {path.stem.replace('_', ', ')}": [str(path)] for path in sorted((run / "examples").glob("*.jpg"))}
    return found or draw_examples(folder)


def draw_examples(folder):
    """Draw phantom studies as examples. Returns: {button text: [paths]}."""
    found = {}
    for number, (text, kind) in enumerate(EXAMPLES.items(), start=1):
        rows = phantom.draw_study(folder, "valid", number, 1, int(kind is not None), kind, **EXAMPLE_FILMS)
        found[text] = [str(folder / row[0]) for row in rows]
    return found


def upload_box(gradio, **options):
    """A gradio.File that returns [path], with a separate file for each upload.

    Gradio keeps an additional empty file for each upload, and names an upload by its content: two visitors with equal images
    would share a file, which is removed after the first answer.
    """
    from gradio import route_utils

    class Apart(route_utils.GradioUploadFile):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.sha.update(os.urandom(32))

    route_utils.GradioUploadFile = Apart
    box = gradio.File(**options)
    box.preprocess = lambda payload: [file.path for file in payload.root]  # with a subclass Gradio would write app.pyi
    return box


def build(gradio, page, examples):
    """The page as gradio.Blocks."""
    fonts = ["system-ui", "sans-serif"]  # system fonts, so that none are downloaded
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
            f"Classified by a network trained on {page.training_data}. Drop all views of **one** study (.png, .jpg, DICOM; "
            f"{MOST_VIEWS} at most), or try an example. DICOM files are grouped by study; other images count as one. "
            "**Research only, not a medical device.**"
        )
        with gradio.Row():
            upload = upload_box(gradio, file_count="multiple", label="Views of one study", height=150)
            with gradio.Row(elem_id="examples"):  # two columns, where the page is wide enough
                buttons = {text: gradio.Button(text, size="sm", min_width=200) for text in examples}
        answer = gradio.HTML(label="Result", elem_id="answer")
        # One at a time: the network uses all cores, and memory for one study.
        upload.upload(answer_upload, upload, [answer, upload], api_name="call", concurrency_id="network", concurrency_limit=1)
        for text, paths in examples.items():
            buttons[text].click(
                lambda paths=paths: page.answer(paths),
                None,
                answer,
                api_visibility="private",
                concurrency_id="network",
            )
    return blocks.queue(max_size=QUEUE_SIZE), theme


def serve(run, host, port):
    """Serve a run's page until Ctrl-C or SIGTERM.

    Args:
        run: RunFolder.
        host, port: address to listen at.
    Raises: PageError when the address is unavailable; RunError when the run cannot be read; HeatmapError without heat maps.
    """
    with tempfile.TemporaryDirectory(prefix="bone-page-") as folder:
        gradio = load_gradio(os.path.join(folder, UPLOADS))
        check_address(host, port)
        page, folder = Page(run), Path(folder)
        examples = find_examples(run, folder / "examples")
        page.answer(next(iter(examples.values())))  # compiles the network before the first request
        blocks, theme = build(gradio, page, examples)
        try:
            launch(blocks, theme, host, port, folder / UPLOADS)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(60)
                    remove_expired(folder / UPLOADS)
        finally:
            blocks.close(verbose=False)
    print("Stopped.")


def check_address(host, port):
    """Raise PageError unless the address is available. Gradio itself checks late, and leaves sockets open after an error."""
    try:
        for name in {host, "127.0.0.1"}:  # Gradio uses both
            with socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((name.strip("[]"), port))
    except OSError:
        raise PageError(f"{host}:{port} is in use, or not an address of this machine. Pass another --port or --host.") from None


def launch(blocks, theme, host, port, uploads):
    """Start serving the page, and print its address."""
    from starlette.middleware import Middleware

    blocks.launch(
        server_name=host,
        server_port=port,
        max_file_size=MAX_FILE_SIZE,
        app_kwargs={"middleware": [Middleware(UploadGuard, uploads=uploads)]},
        theme=theme,
        css=STYLE,
        share=False,
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        quiet=True,
        prevent_thread_lock=True,
    )
    print(f"http://{host}:{port}  (stop with Ctrl-C)", flush=True)
    if host not in ("127.0.0.1", "localhost", "::1"):
        print("Everyone who can reach this machine can use the page: it has no password and no encryption.", file=sys.stderr)


def remove_expired(folder):
    """Remove uploads older than UPLOAD_SECONDS, which were never submitted or were rejected."""
    for path in folder.glob("*"):
        if time.time() - path.stat().st_mtime > UPLOAD_SECONDS:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def is_full(folder):
    """Whether uploads exceed MAX_UPLOAD_BYTES."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) > MAX_UPLOAD_BYTES


class UploadGuard:
    """ASGI middleware that adds POLICY to every response, and rejects uploads when storage is full."""

    def __init__(self, app, uploads):
        self.app, self.uploads = app, uploads

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"].endswith("/upload") and is_full(self.uploads):
            await send({"type": "http.response.start", "status": 507, "headers": []})
            await send({"type": "http.response.body", "body": b"Upload storage is full; try again in ten minutes."})
            return

        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)
