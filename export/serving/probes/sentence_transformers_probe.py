"""SentenceTransformer on the folder: the torch backend, then the ONNX one with each graph."""

from answering import Request, single
from sentence_transformers import SentenceTransformer

request = Request()
remote = any(request.folder.glob("modeling_*.py"))


def opened(backend, file_name=None):
    """A model on one backend; the folder's own short modelling file where it brings one.

    The reference has no prompt before its texts and all features, whatever the folder's defaults.
    """
    settings = {} if file_name is None else {"model_kwargs": {"file_name": file_name}}
    model = SentenceTransformer(
        str(request.folder), backend=backend, trust_remote_code=remote, device="cpu", **settings
    )
    model.truncate_dim = None
    return lambda text: model.encode([text], prompt="", show_progress_bar=False)[0]


request.ask("fp32", opened("torch"), way="torch", takes=single)
for precision, place in request.graphs.items():
    request.ask(precision, opened("onnx", place), way="onnx", takes=single)
request.answer("sentence-transformers", "transformers", "onnxruntime")
