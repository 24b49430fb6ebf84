#!/usr/bin/env bash
# Versions: sentence-transformers 6.2.0, transformers 5.24.0, tokenizers 0.23.3, torch 2.13.0 (Python 3.11).
# Guess: with `include_prompt=False` the tokens of the prompt are left out of pooling, and those of the text are pooled.
# Seen: as many tokens are left out as the prompt has by itself. A byte-level BPE (GPT-2's, Qwen's, ModernBERT's) gives
#   the blank at the end of "query: " a token of its own when nothing follows, and joins it to the next word when
#   something does: one token too many is left out, which is the first of the text. A text of one token is left with
#   the closing special token alone. A prompt without the blank, and texts that begin with one, are pooled right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 sentence-transformers==6.2.0 transformers==5.24.0 tokenizers==0.23.3
"$folder/env/bin/python" - "$folder/model" <<'PYTHON'
import sys
import warnings

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

warnings.simplefilter("ignore")
disable_progress_bar()
folder = sys.argv[1]
byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = byte_level
trainer = trainers.BpeTrainer(
    vocab_size=400,
    special_tokens=["<s>", "</s>"],
    initial_alphabet=byte_level.alphabet(),
    show_progress=False,
)
tokenizer.train_from_iterator(["query: cats chase mice"] * 20, trainer)
tokenizer.post_processor = processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
)
fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>", model_max_length=32
)
fast.save_pretrained(folder)
config = BertConfig(
    vocab_size=tokenizer.get_vocab_size(),
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    intermediate_size=8,
    max_position_embeddings=32,
)
BertModel(config).save_pretrained(folder)
pooling = Pooling(8, "mean", include_prompt=False)
model = SentenceTransformer(modules=[Transformer(folder), pooling], device="cpu")


def pooled(prompt, text):
    """The tokens whose mean the embedding is."""
    result = model.encode(text, prompt=prompt, output_value=None)
    vectors, mean = result["token_embeddings"], result["sentence_embedding"]
    first = min(range(len(vectors)), key=lambda i: float((vectors[i:].mean(0) - mean).norm()))
    return fast.convert_ids_to_tokens(fast(prompt + text)["input_ids"])[first:]


blank_in_prompt, blank_in_text = pooled("query: ", "cats chase mice"), pooled("query:", " cats chase mice")
print(f"prompt 'query: ' before 'cats chase mice': the vector is of {blank_in_prompt}")
print(f"prompt 'query:' before ' cats chase mice': the vector is of {blank_in_text}")
sys.exit(0 if len(blank_in_prompt) == len(blank_in_text) - 1 else 1)
PYTHON
