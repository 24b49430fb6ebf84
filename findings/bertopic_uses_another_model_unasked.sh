#!/usr/bin/env bash
# Versions: bertopic 0.17.4, keybert 0.9.0, scikit-learn 1.8.0, numpy 2.4.6 (Python 3.11).
# Guess: `BERTopic(embedding_model=model)` and `KeyBERT(model=model)` embed with any object that has the `encode` of
#   SentenceTransformer, such as a client of a server, or say that they cannot.
# Seen: they know classes by words in their names. Any other object is dropped without a word, and a model of their own is
#   loaded in its place: all-MiniLM-L6-v2 by BERTopic, paraphrase-multilingual-MiniLM-L12-v2 by KeyBERT. `encode` is never
#   called. A subclass of their `BaseEmbedder` whose `embed(documents, verbose=False)` calls the model is used as it is. (Here a
#   stand-in of sentence-transformers tells which model it is to load, and loads none.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
install=("$folder/env/bin/pip" install --quiet --disable-pip-version-check)
"${install[@]}" scikit-learn==1.8.0 numpy==2.4.6 pandas plotly pyyaml rich tqdm
"${install[@]}" --no-deps bertopic==0.17.4 keybert==0.9.0
mkdir "$folder/sentence_transformers"
cat >"$folder/sentence_transformers/__init__.py" <<'PYTHON'
import numpy as np

loaded, util = [], None


class SentenceTransformer:
    def __init__(self, name):
        loaded.append(name.rpartition("/")[2])

    def encode(self, sentences, **_):
        return np.random.default_rng(0).normal(size=(len(sentences), 16))
PYTHON
echo "class StaticEmbedding: pass" >"$folder/sentence_transformers/models.py"
PYTHONPATH=$folder "$folder/env/bin/python" -W ignore - <<'PYTHON'
import sys

import bertopic
import bertopic.backend
import keybert
import keybert.backend
import numpy as np
import sentence_transformers

texts = [f"the {a} of the {b} {n}" for a in ("cat", "loan") for b in ("house", "bank") for n in range(20)]
asked = []


def vectors(documents):
    asked.append(len(documents))
    return np.random.default_rng(0).normal(size=(len(documents), 16))


class Remote:
    """A client with the face of SentenceTransformer."""

    def encode(self, sentences, **_):
        return vectors(sentences)


class ForBertopic(bertopic.backend.BaseEmbedder):
    def embed(self, documents, verbose=False):
        return vectors(documents)


class ForKeybert(keybert.backend.BaseEmbedder):
    def embed(self, documents, verbose=False):
        return vectors(documents)


def run(name, work):
    asked.clear()
    sentence_transformers.loaded.clear()
    work()
    print(f"{name}: model asked {len(asked)} times, others loaded: {sentence_transformers.loaded}")
    return bool(asked), list(sentence_transformers.loaded)


seen = [
    run("BERTopic", lambda: bertopic.BERTopic(embedding_model=Remote()).fit(texts)),
    run("KeyBERT", lambda: keybert.KeyBERT(model=Remote()).extract_keywords(texts[0])),
    run("BERTopic, BaseEmbedder", lambda: bertopic.BERTopic(embedding_model=ForBertopic()).fit(texts)),
    run("KeyBERT, BaseEmbedder", lambda: keybert.KeyBERT(model=ForKeybert()).extract_keywords(texts[0])),
]
others = [(False, ["all-MiniLM-L6-v2"]), (False, ["paraphrase-multilingual-MiniLM-L12-v2"])]
sys.exit(0 if seen == [*others, (True, []), (True, [])] else 1)
PYTHON
