#!/usr/bin/env bash
# Versions: langchain-huggingface 1.2.3, llama-index-embeddings-openai 0.7.0, openai 3.57.0, huggingface_hub 1.33.0
#   (Python 3.11).
# Guess: a framework's class for an embedding API sends the texts as they are; the vectors are those of the plain client.
# Seen: LangChain's `HuggingFaceEndpointEmbeddings` and LlamaIndex's classes for OpenAI and what is like it put a blank in
#   place of every line break first, and nothing turns it off. A model whose tokenizer has tokens for line breaks (a
#   byte-level BPE, such as Qwen's or ModernBERT's) gives other vectors for any text of more than a line, code above
#   all: an index that one client fills and another asks does not match.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 openai==3.57.0 \
  huggingface_hub==1.33.0 langchain-huggingface==1.2.3 llama-index-embeddings-openai==0.7.0
"$folder/env/bin/python" - <<'PYTHON'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import InferenceClient
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from llama_index.embeddings.openai import OpenAIEmbedding
from openai import OpenAI

TEXT = "def f(x):\n\treturn x\n"
received = []


class Server(BaseHTTPRequestHandler):
    """Embeds as OpenAI's API and text-embeddings-inference do, and notes the texts."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = request.get("input", request.get("inputs"))
        received.extend([texts] if isinstance(texts, str) else texts)
        entry = {"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        reply = {"object": "list", "model": "m", "data": [entry], "usage": usage}
        body = json.dumps(reply if "input" in request else [[0.6, 0.8]]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
openai = OpenAI(base_url=url, api_key="none")
hub = InferenceClient(base_url=url)
langchain = HuggingFaceEndpointEmbeddings()
langchain.client = hub
llama_index = OpenAIEmbedding(model_name="m", api_base=url, api_key="none")
calls = {
    "openai": lambda: openai.embeddings.create(model="m", input=[TEXT]),
    "huggingface_hub": lambda: hub.feature_extraction([TEXT]),
    "LangChain": lambda: langchain.embed_documents([TEXT]),
    "LlamaIndex": lambda: llama_index.get_text_embedding(TEXT),
}
for client, call in calls.items():
    call()
    print(f"{client} sends {received[-1]!r}")
flat = TEXT.replace("\n", " ")
sys.exit(0 if received == [TEXT, TEXT, flat, flat] else 1)
PYTHON
