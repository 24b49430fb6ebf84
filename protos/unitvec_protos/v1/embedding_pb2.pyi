from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Truncate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRUNCATE_UNSPECIFIED: _ClassVar[Truncate]
    TRUNCATE_END: _ClassVar[Truncate]
    TRUNCATE_START: _ClassVar[Truncate]
    TRUNCATE_ERROR: _ClassVar[Truncate]

class Dtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[Dtype]
    DTYPE_FLOAT32: _ClassVar[Dtype]
    DTYPE_FLOAT16: _ClassVar[Dtype]
    DTYPE_INT8: _ClassVar[Dtype]
    DTYPE_BINARY: _ClassVar[Dtype]

class Metric(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_UNSPECIFIED: _ClassVar[Metric]
    METRIC_COSINE: _ClassVar[Metric]
    METRIC_DOT: _ClassVar[Metric]
    METRIC_EUCLIDEAN: _ClassVar[Metric]
    METRIC_MANHATTAN: _ClassVar[Metric]

class Pooling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POOLING_UNSPECIFIED: _ClassVar[Pooling]
    POOLING_MEAN: _ClassVar[Pooling]
    POOLING_CLS: _ClassVar[Pooling]
    POOLING_MAX: _ClassVar[Pooling]
    POOLING_MEAN_SQRT_LEN_TOKENS: _ClassVar[Pooling]
    POOLING_WEIGHTED_MEAN: _ClassVar[Pooling]
    POOLING_LAST_TOKEN: _ClassVar[Pooling]
    POOLING_CONCATENATED: _ClassVar[Pooling]
TRUNCATE_UNSPECIFIED: Truncate
TRUNCATE_END: Truncate
TRUNCATE_START: Truncate
TRUNCATE_ERROR: Truncate
DTYPE_UNSPECIFIED: Dtype
DTYPE_FLOAT32: Dtype
DTYPE_FLOAT16: Dtype
DTYPE_INT8: Dtype
DTYPE_BINARY: Dtype
METRIC_UNSPECIFIED: Metric
METRIC_COSINE: Metric
METRIC_DOT: Metric
METRIC_EUCLIDEAN: Metric
METRIC_MANHATTAN: Metric
POOLING_UNSPECIFIED: Pooling
POOLING_MEAN: Pooling
POOLING_CLS: Pooling
POOLING_MAX: Pooling
POOLING_MEAN_SQRT_LEN_TOKENS: Pooling
POOLING_WEIGHTED_MEAN: Pooling
POOLING_LAST_TOKEN: Pooling
POOLING_CONCATENATED: Pooling

class Windows(_message.Message):
    __slots__ = ("tokens", "overlap_tokens", "pooled")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    POOLED_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    overlap_tokens: int
    pooled: bool
    def __init__(self, tokens: _Optional[int] = ..., overlap_tokens: _Optional[int] = ..., pooled: _Optional[bool] = ...) -> None: ...

class EncodeOptions(_message.Message):
    __slots__ = ("normalize", "dimensions", "prompt_name", "truncate", "expected_space", "expected_bits", "windows", "route_only")
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SPACE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BITS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    ROUTE_ONLY_FIELD_NUMBER: _ClassVar[int]
    normalize: bool
    dimensions: int
    prompt_name: str
    truncate: Truncate
    expected_space: str
    expected_bits: str
    windows: Windows
    route_only: bool
    def __init__(self, normalize: _Optional[bool] = ..., dimensions: _Optional[int] = ..., prompt_name: _Optional[str] = ..., truncate: _Optional[_Union[Truncate, str]] = ..., expected_space: _Optional[str] = ..., expected_bits: _Optional[str] = ..., windows: _Optional[_Union[Windows, _Mapping]] = ..., route_only: _Optional[bool] = ...) -> None: ...

class Matrix(_message.Message):
    __slots__ = ("rows", "dim", "dtype", "data", "scales", "values")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    rows: int
    dim: int
    dtype: Dtype
    data: bytes
    scales: _containers.RepeatedScalarFieldContainer[float]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, rows: _Optional[int] = ..., dim: _Optional[int] = ..., dtype: _Optional[_Union[Dtype, str]] = ..., data: _Optional[bytes] = ..., scales: _Optional[_Iterable[float]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("tokens", "truncated", "total_tokens", "left_out_tokens")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    truncated: _containers.RepeatedScalarFieldContainer[int]
    total_tokens: int
    left_out_tokens: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tokens: _Optional[_Iterable[int]] = ..., truncated: _Optional[_Iterable[int]] = ..., total_tokens: _Optional[int] = ..., left_out_tokens: _Optional[_Iterable[int]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("tokenize_ns", "queue_ns", "infer_ns", "total_ns")
    TOKENIZE_NS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    INFER_NS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    tokenize_ns: int
    queue_ns: int
    infer_ns: int
    total_ns: int
    def __init__(self, tokenize_ns: _Optional[int] = ..., queue_ns: _Optional[int] = ..., infer_ns: _Optional[int] = ..., total_ns: _Optional[int] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "reason", "message", "field", "retry_delay_ms", "request_id", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    field: str
    retry_delay_ms: int
    request_id: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., retry_delay_ms: _Optional[int] = ..., request_id: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("model", "texts", "options", "dtype", "as_list", "partial")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    AS_LIST_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    model: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    options: EncodeOptions
    dtype: Dtype
    as_list: bool
    partial: bool
    def __init__(self, model: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., options: _Optional[_Union[EncodeOptions, _Mapping]] = ..., dtype: _Optional[_Union[Dtype, str]] = ..., as_list: _Optional[bool] = ..., partial: _Optional[bool] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("text_index", "byte_start", "byte_end", "char_start", "char_end", "tokens")
    TEXT_INDEX_FIELD_NUMBER: _ClassVar[int]
    BYTE_START_FIELD_NUMBER: _ClassVar[int]
    BYTE_END_FIELD_NUMBER: _ClassVar[int]
    CHAR_START_FIELD_NUMBER: _ClassVar[int]
    CHAR_END_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text_index: int
    byte_start: int
    byte_end: int
    char_start: int
    char_end: int
    tokens: int
    def __init__(self, text_index: _Optional[int] = ..., byte_start: _Optional[int] = ..., byte_end: _Optional[int] = ..., char_start: _Optional[int] = ..., char_end: _Optional[int] = ..., tokens: _Optional[int] = ...) -> None: ...

class TextError(_message.Message):
    __slots__ = ("index", "error")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    index: int
    error: Error
    def __init__(self, index: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("embeddings", "model", "usage", "timings", "space", "bits", "errors", "windows")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    embeddings: Matrix
    model: str
    usage: Usage
    timings: Timings
    space: str
    bits: str
    errors: _containers.RepeatedCompositeFieldContainer[TextError]
    windows: _containers.RepeatedCompositeFieldContainer[Window]
    def __init__(self, embeddings: _Optional[_Union[Matrix, _Mapping]] = ..., model: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., space: _Optional[str] = ..., bits: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[TextError, _Mapping]]] = ..., windows: _Optional[_Iterable[_Union[Window, _Mapping]]] = ...) -> None: ...

class StreamEmbedRequest(_message.Message):
    __slots__ = ("id", "request")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    id: str
    request: EmbedRequest
    def __init__(self, id: _Optional[str] = ..., request: _Optional[_Union[EmbedRequest, _Mapping]] = ...) -> None: ...

class StreamEmbedResponse(_message.Message):
    __slots__ = ("id", "response", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    response: EmbedResponse
    error: Error
    def __init__(self, id: _Optional[str] = ..., response: _Optional[_Union[EmbedResponse, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class TextList(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class Operand(_message.Message):
    __slots__ = ("texts", "vectors", "options")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    texts: TextList
    vectors: Matrix
    options: EncodeOptions
    def __init__(self, texts: _Optional[_Union[TextList, _Mapping]] = ..., vectors: _Optional[_Union[Matrix, _Mapping]] = ..., options: _Optional[_Union[EncodeOptions, _Mapping]] = ...) -> None: ...

class PairComparison(_message.Message):
    __slots__ = ("a", "b")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    a: Operand
    b: Operand
    def __init__(self, a: _Optional[_Union[Operand, _Mapping]] = ..., b: _Optional[_Union[Operand, _Mapping]] = ...) -> None: ...

class CrossComparison(_message.Message):
    __slots__ = ("queries", "documents", "top_k")
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    queries: Operand
    documents: Operand
    top_k: int
    def __init__(self, queries: _Optional[_Union[Operand, _Mapping]] = ..., documents: _Optional[_Union[Operand, _Mapping]] = ..., top_k: _Optional[int] = ...) -> None: ...

class Ranking(_message.Message):
    __slots__ = ("indices", "scores")
    INDICES_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    scores: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, indices: _Optional[_Iterable[int]] = ..., scores: _Optional[_Iterable[float]] = ...) -> None: ...

class SimilarityRequest(_message.Message):
    __slots__ = ("model", "metric", "pairs", "cross", "as_list")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    CROSS_FIELD_NUMBER: _ClassVar[int]
    AS_LIST_FIELD_NUMBER: _ClassVar[int]
    model: str
    metric: Metric
    pairs: PairComparison
    cross: CrossComparison
    as_list: bool
    def __init__(self, model: _Optional[str] = ..., metric: _Optional[_Union[Metric, str]] = ..., pairs: _Optional[_Union[PairComparison, _Mapping]] = ..., cross: _Optional[_Union[CrossComparison, _Mapping]] = ..., as_list: _Optional[bool] = ...) -> None: ...

class SimilarityResponse(_message.Message):
    __slots__ = ("scores", "rankings", "model", "usage", "timings", "space", "bits")
    SCORES_FIELD_NUMBER: _ClassVar[int]
    RANKINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    scores: Matrix
    rankings: _containers.RepeatedCompositeFieldContainer[Ranking]
    model: str
    usage: Usage
    timings: Timings
    space: str
    bits: str
    def __init__(self, scores: _Optional[_Union[Matrix, _Mapping]] = ..., rankings: _Optional[_Iterable[_Union[Ranking, _Mapping]]] = ..., model: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., space: _Optional[str] = ..., bits: _Optional[str] = ...) -> None: ...

class SimilaritySetup(_message.Message):
    __slots__ = ("model", "metric")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    model: str
    metric: Metric
    def __init__(self, model: _Optional[str] = ..., metric: _Optional[_Union[Metric, str]] = ...) -> None: ...

class SimilarityQuery(_message.Message):
    __slots__ = ("queries", "top_k", "as_list")
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    AS_LIST_FIELD_NUMBER: _ClassVar[int]
    queries: Operand
    top_k: int
    as_list: bool
    def __init__(self, queries: _Optional[_Union[Operand, _Mapping]] = ..., top_k: _Optional[int] = ..., as_list: _Optional[bool] = ...) -> None: ...

class StreamSimilarityRequest(_message.Message):
    __slots__ = ("id", "setup", "documents", "query")
    ID_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    id: str
    setup: SimilaritySetup
    documents: Operand
    query: SimilarityQuery
    def __init__(self, id: _Optional[str] = ..., setup: _Optional[_Union[SimilaritySetup, _Mapping]] = ..., documents: _Optional[_Union[Operand, _Mapping]] = ..., query: _Optional[_Union[SimilarityQuery, _Mapping]] = ...) -> None: ...

class DocumentsAdded(_message.Message):
    __slots__ = ("first_index", "count")
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first_index: int
    count: int
    def __init__(self, first_index: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class QueryResult(_message.Message):
    __slots__ = ("scores", "rankings")
    SCORES_FIELD_NUMBER: _ClassVar[int]
    RANKINGS_FIELD_NUMBER: _ClassVar[int]
    scores: Matrix
    rankings: _containers.RepeatedCompositeFieldContainer[Ranking]
    def __init__(self, scores: _Optional[_Union[Matrix, _Mapping]] = ..., rankings: _Optional[_Iterable[_Union[Ranking, _Mapping]]] = ...) -> None: ...

class SetupDone(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class StreamSimilarityResponse(_message.Message):
    __slots__ = ("id", "setup", "documents", "result", "error", "usage", "timings", "space", "bits")
    ID_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    id: str
    setup: SetupDone
    documents: DocumentsAdded
    result: QueryResult
    error: Error
    usage: Usage
    timings: Timings
    space: str
    bits: str
    def __init__(self, id: _Optional[str] = ..., setup: _Optional[_Union[SetupDone, _Mapping]] = ..., documents: _Optional[_Union[DocumentsAdded, _Mapping]] = ..., result: _Optional[_Union[QueryResult, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., space: _Optional[str] = ..., bits: _Optional[str] = ...) -> None: ...

class TokenizeRequest(_message.Message):
    __slots__ = ("model", "texts", "prompt_name", "truncate")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    model: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    prompt_name: str
    truncate: Truncate
    def __init__(self, model: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., prompt_name: _Optional[str] = ..., truncate: _Optional[_Union[Truncate, str]] = ...) -> None: ...

class TokenizedText(_message.Message):
    __slots__ = ("ids", "tokens", "starts", "ends", "kept_tokens", "kept_start", "kept_end")
    IDS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    KEPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KEPT_START_FIELD_NUMBER: _ClassVar[int]
    KEPT_END_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    starts: _containers.RepeatedScalarFieldContainer[int]
    ends: _containers.RepeatedScalarFieldContainer[int]
    kept_tokens: int
    kept_start: int
    kept_end: int
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., tokens: _Optional[_Iterable[str]] = ..., starts: _Optional[_Iterable[int]] = ..., ends: _Optional[_Iterable[int]] = ..., kept_tokens: _Optional[int] = ..., kept_start: _Optional[int] = ..., kept_end: _Optional[int] = ...) -> None: ...

class TokenizeResponse(_message.Message):
    __slots__ = ("texts", "model", "max_seq_length", "space", "bits")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQ_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedCompositeFieldContainer[TokenizedText]
    model: str
    max_seq_length: int
    space: str
    bits: str
    def __init__(self, texts: _Optional[_Iterable[_Union[TokenizedText, _Mapping]]] = ..., model: _Optional[str] = ..., max_seq_length: _Optional[int] = ..., space: _Optional[str] = ..., bits: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "model_id", "revision", "dim", "max_seq_length", "pooling", "normalized", "prompts", "default_prompt_name", "precision", "provider", "is_default", "parity_cosine_min", "similarity_fn_name", "space", "bits", "reproducible", "unpooled_prompts", "routed")
    class PromptsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQ_LENGTH_FIELD_NUMBER: _ClassVar[int]
    POOLING_FIELD_NUMBER: _ClassVar[int]
    NORMALIZED_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    PARITY_COSINE_MIN_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FN_NAME_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    REPRODUCIBLE_FIELD_NUMBER: _ClassVar[int]
    UNPOOLED_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    ROUTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    model_id: str
    revision: str
    dim: int
    max_seq_length: int
    pooling: Pooling
    normalized: bool
    prompts: _containers.ScalarMap[str, str]
    default_prompt_name: str
    precision: str
    provider: str
    is_default: bool
    parity_cosine_min: float
    similarity_fn_name: str
    space: str
    bits: str
    reproducible: bool
    unpooled_prompts: bool
    routed: bool
    def __init__(self, name: _Optional[str] = ..., model_id: _Optional[str] = ..., revision: _Optional[str] = ..., dim: _Optional[int] = ..., max_seq_length: _Optional[int] = ..., pooling: _Optional[_Union[Pooling, str]] = ..., normalized: _Optional[bool] = ..., prompts: _Optional[_Mapping[str, str]] = ..., default_prompt_name: _Optional[str] = ..., precision: _Optional[str] = ..., provider: _Optional[str] = ..., is_default: _Optional[bool] = ..., parity_cosine_min: _Optional[float] = ..., similarity_fn_name: _Optional[str] = ..., space: _Optional[str] = ..., bits: _Optional[str] = ..., reproducible: _Optional[bool] = ..., unpooled_prompts: _Optional[bool] = ..., routed: _Optional[bool] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_texts_per_request", "max_text_bytes", "max_queued_tokens", "max_stream_documents", "max_message_bytes", "max_stream_requests", "max_scores", "max_stream_bytes", "max_comparisons", "max_calls", "max_windows_per_request")
    MAX_TEXTS_PER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MAX_SCORES_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_COMPARISONS_FIELD_NUMBER: _ClassVar[int]
    MAX_CALLS_FIELD_NUMBER: _ClassVar[int]
    MAX_WINDOWS_PER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    max_texts_per_request: int
    max_text_bytes: int
    max_queued_tokens: int
    max_stream_documents: int
    max_message_bytes: int
    max_stream_requests: int
    max_scores: int
    max_stream_bytes: int
    max_comparisons: int
    max_calls: int
    max_windows_per_request: int
    def __init__(self, max_texts_per_request: _Optional[int] = ..., max_text_bytes: _Optional[int] = ..., max_queued_tokens: _Optional[int] = ..., max_stream_documents: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_stream_requests: _Optional[int] = ..., max_scores: _Optional[int] = ..., max_stream_bytes: _Optional[int] = ..., max_comparisons: _Optional[int] = ..., max_calls: _Optional[int] = ..., max_windows_per_request: _Optional[int] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "limits", "server_version")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    limits: Limits
    server_version: str
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., server_version: _Optional[str] = ...) -> None: ...

class GetCanaryRequest(_message.Message):
    __slots__ = ("model", "prompt_name")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt_name: str
    def __init__(self, model: _Optional[str] = ..., prompt_name: _Optional[str] = ...) -> None: ...

class GetCanaryResponse(_message.Message):
    __slots__ = ("model", "texts", "vectors", "min_cosine", "exact", "space", "bits", "routes")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    MIN_COSINE_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    model: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    vectors: Matrix
    min_cosine: float
    exact: bool
    space: str
    bits: str
    routes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., vectors: _Optional[_Union[Matrix, _Mapping]] = ..., min_cosine: _Optional[float] = ..., exact: _Optional[bool] = ..., space: _Optional[str] = ..., bits: _Optional[str] = ..., routes: _Optional[_Iterable[str]] = ...) -> None: ...
