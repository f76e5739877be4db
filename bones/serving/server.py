"""The web page's server: Gradio without anything from outside, uploads that are removed, and limits on both."""

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
from bones.system import backend
from bones.system.errors import PageError

MAX_FILE_SIZE = "50mb"  # of one file, refused while it arrives
QUEUE_SIZE = 100  # requests that may wait for their turn
UPLOADS = "uploads"  # folder that they lie in until they are answered
UPLOAD_SECONDS = 600  # seconds; a request that waits longer finds its views gone
MAX_UPLOAD_BYTES = 2e9  # bytes that uploads may take together; beyond that new ones are refused
EXAMPLES = {"Example: displaced fracture": "displaced", "Example: plate and screws": "plate", "Example: normal": None}
EXAMPLE_FILMS = {"size": 256, "severity": 4.0, "zoom": 2.0, "seed": 3}  # as plain as those of the demo
# What a browser may load for the page: nothing from elsewhere, whatever Gradio's own page asks for.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: wss: data: blob:; "
    "frame-ancestors 'self'; form-action 'self'"
)


def load_gradio(folder):
    """Gradio, told before it is imported to report nothing to anyone, and to keep uploads in a folder."""
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    return backend.require("gradio", "app.py")


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
    return blocks.queue(max_size=QUEUE_SIZE), theme


def serve(run, host, port):
    """Show a run's page until Ctrl-C or SIGTERM.

    Args:
        run: RunFolder.
        host, port: address to listen at.
    Raises: PageError when it cannot be listened at; RunError or HeatmapError when the run cannot be read or explained.
    """
    with tempfile.TemporaryDirectory(prefix="bone-page-") as folder:
        gradio = load_gradio(os.path.join(folder, UPLOADS))
        check_address(host, port)
        page, folder = Page(run), Path(folder)
        examples = draw_examples(folder / "examples")
        page.answer(next(iter(examples.values())))  # the first answer compiles the network: not for a visitor to wait for
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
    """Raise PageError unless an address can be listened at; Gradio itself looks last, and leaves sockets open at a fault."""
    try:
        for name in {host, "127.0.0.1"}:  # Gradio takes both
            with socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((name.strip("[]"), port))
    except OSError:
        raise PageError(f"{host}:{port} is taken, or is no address of this machine. Pass another --port or --host.") from None


def launch(blocks, theme, host, port, uploads):
    """Have Gradio serve the page, and print where."""
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
    print(f"http://{host}:{port}  (Ctrl-C stops it)", flush=True)
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(
            "Everyone who reaches this machine reaches the page: it asks for no password and does not encrypt.", file=sys.stderr
        )


def remove_expired(folder):
    """Remove uploads that nobody asked an answer for, or that were refused: they are older than UPLOAD_SECONDS."""
    for path in folder.glob("*"):
        if time.time() - path.stat().st_mtime > UPLOAD_SECONDS:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def is_full(folder):
    """Whether uploads take as much room as they may."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) > MAX_UPLOAD_BYTES


class UploadGuard:
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
