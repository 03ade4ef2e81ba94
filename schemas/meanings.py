"""Meanings: what each error code says to a person, and what to do about it."""

from dataclasses import dataclass

from schemas.errors import Code


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code says to a person, and the HTTP status that it has when a request ends so."""

    status: int
    title: str
    advice: str


MEANINGS: dict[Code, Meaning] = {
    Code.DOCUMENT_BROKEN: Meaning(
        422, "The document cannot be read", "Open it in a viewer, save it anew, upload that."
    ),
    Code.DOCUMENT_EMPTY: Meaning(422, "The document has no bytes", "Send the file's content."),
    Code.DOCUMENT_ENCRYPTED: Meaning(
        422, "The document needs a password", "Remove the password and upload it again."
    ),
    Code.DOCUMENT_HAS_NO_TEXT: Meaning(
        422,
        "No page has a text layer",
        "It is a scan: run OCR on it first, or have LlamaParse read it.",
    ),
    Code.DOCUMENT_NOT_UTF8: Meaning(
        422, "The text is not UTF-8", "Convert the file to UTF-8 and upload it again."
    ),
    Code.DOCUMENT_TOO_MANY_PAGES: Meaning(
        422, "The document has too many pages", "Split it, or raise PARSEWIRE_MAX_PAGES."
    ),
    Code.UNSUPPORTED_MEDIA_TYPE: Meaning(
        415, "This kind of document is not accepted", "Send one of the accepted media types."
    ),
    Code.PARSE_TIMEOUT: Meaning(
        504, "Parsing took too long", "Split it, or raise PARSEWIRE_PARSE_TIMEOUT_SECONDS."
    ),
    Code.PARSER_CRASHED: Meaning(500, "The parser's process died", "It is tried again by itself."),
    Code.PARSER_UNAVAILABLE: Meaning(
        503, "The parser does not answer", "It is tried again by itself; see `parsewire doctor`."
    ),
    Code.SOURCE_MISSING: Meaning(
        500, "The uploaded bytes are gone", "Upload the document again with force."
    ),
    Code.SOURCE_CORRUPT: Meaning(
        500, "The stored bytes changed", "Check the disk; upload the document again with force."
    ),
    Code.DOCUMENT_TOO_LARGE: Meaning(
        422, "The document is larger than the parser takes", "Split it, or use another parser."
    ),
    Code.VENDOR_REFUSED: Meaning(
        502,
        "The parser elsewhere refused the request",
        "Read the message, mend what it says (`parsewire doctor`), and retry the job.",
    ),
    Code.VENDOR_UNAUTHORIZED: Meaning(
        502,
        "The parser elsewhere refused the key",
        "Mend key or region (`parsewire doctor`), then `parsewire services close-circuit`.",
    ),
    Code.VENDOR_QUOTA_SPENT: Meaning(
        503,
        "The account elsewhere is out of credits",
        "Buy credits or raise its caps, then `parsewire services close-circuit`.",
    ),
    Code.VENDOR_RATE_LIMITED: Meaning(
        503,
        "The parser elsewhere takes no more calls now",
        "It is tried again by itself; `parsewire services set --rate` sets the plan's rate.",
    ),
    Code.VENDOR_FAILED: Meaning(
        502,
        "The parser elsewhere failed",
        "It is tried again by itself; see LlamaCloud's status page.",
    ),
    Code.VENDOR_CANCELLED: Meaning(
        502, "The job was cancelled at the parser elsewhere", "It is tried again by itself."
    ),
    Code.VENDOR_LOST: Meaning(
        502, "The parser elsewhere does not know the job", "It is tried again by itself."
    ),
    Code.VENDOR_STUCK: Meaning(
        504, "The parser elsewhere did not finish in time", "It is cancelled there and tried again."
    ),
    Code.CIRCUIT_OPEN: Meaning(
        503,
        "The parser elsewhere is left alone for a while",
        "See `parsewire services` for why and until when.",
    ),
    Code.ARTIFACT_UNUSABLE: Meaning(
        502, "The parser's answer has no usable result", "Look at the parser that sent it."
    ),
    Code.WEBHOOK_UNKNOWN: Meaning(
        202, "A webhook of an unknown job or event", "See `parsewire dead-letters list`."
    ),
    Code.BUDGET_SPENT: Meaning(
        402,
        "A budget is spent",
        "Wait for its next window, or have it raised (`parsewire budgets`).",
    ),
    Code.SPENDING_FROZEN: Meaning(
        402, "All spending is stopped by an operator", "`parsewire budgets unfreeze` lets it go on."
    ),
    Code.PRICE_UNKNOWN: Meaning(
        500,
        "Nobody knows what the parse would cost",
        "Give PARSEWIRE_PRICES_FILE the price, and retry the job; see docs/money.md.",
    ),
    Code.SOURCE_NOT_FOUND: Meaning(
        422, "The named document is not there", "Put it there before it is submitted."
    ),
    Code.SOURCE_MISMATCH: Meaning(
        422, "The document is not the one that was named", "Send its own sha256 and size."
    ),
    Code.URL_NOT_ALLOWED: Meaning(
        422, "The address is not on the list", "Use an allowed host (PARSEWIRE_FETCH_HOSTS)."
    ),
    Code.URL_REDIRECTED: Meaning(
        422, "The address leads elsewhere", "Name the document's final address."
    ),
    Code.URL_ADDRESS_PRIVATE: Meaning(
        422, "The address is not a public one", "Use a host that resolves to public addresses."
    ),
    Code.URL_TOO_SLOW: Meaning(
        422, "The document did not come in time", "Send its bytes, or use a faster server."
    ),
    Code.URL_FAILED: Meaning(
        422, "The document could not be fetched", "Open the address yourself, then submit anew."
    ),
    Code.WORKER_LOST: Meaning(500, "The worker died", "It is tried again by itself."),
    Code.POISON_EVENT: Meaning(
        500, "The job's event could not be handled", "See `parsewire dead-letters list`."
    ),
    Code.SHUTDOWN: Meaning(503, "The worker was stopped", "It is tried again by itself."),
    Code.INVALID_REQUEST: Meaning(400, "The request is not valid", "Correct what the detail says."),
    Code.OPTION_NOT_SERVED: Meaning(
        422, "This deployment cannot do what an option asks", "Do what the detail says."
    ),
    Code.UNAUTHORIZED: Meaning(
        401, "No valid key", "Send `Authorization: Bearer pw_...`; see `parsewire keys create`."
    ),
    Code.FORBIDDEN: Meaning(403, "Not yours to do", "Use a key that may do this."),
    Code.NOT_FOUND: Meaning(404, "Not found", "Check the id; `GET /` lists what there is."),
    Code.METHOD_NOT_ALLOWED: Meaning(405, "Method not allowed", "`GET /` lists what there is."),
    Code.NOT_ACCEPTABLE: Meaning(
        406, "No such format", "Accept text/markdown, text/plain or application/json."
    ),
    Code.REQUEST_TIMEOUT: Meaning(408, "The body came too slowly", "Send it again, faster."),
    Code.CONFLICT: Meaning(409, "The job's state does not allow this", "Look at the job first."),
    Code.RESULT_NOT_READY: Meaning(409, "There is no result", "Look at the job's state."),
    Code.TOO_LARGE: Meaning(413, "The body is too large", "Send less, or raise the limit."),
    Code.TOO_MANY_REQUESTS: Meaning(
        429, "Too many requests from you", "Send them more slowly; see Retry-After."
    ),
    Code.TABLES_UNAVAILABLE: Meaning(503, "The tables do not answer", "Try again later."),
    Code.BUS_UNAVAILABLE: Meaning(503, "The message bus does not answer", "Try again later."),
    Code.STORAGE_UNAVAILABLE: Meaning(503, "The blob store does not answer", "Try again later."),
    Code.RECORD_TOO_LARGE: Meaning(500, "An event is too large", "Report it with the support id."),
    Code.OVERLOADED: Meaning(503, "Too much at once", "Try again after Retry-After."),
    Code.INTERNAL_ERROR: Meaning(500, "Our fault", "Report it with the support id."),
}
