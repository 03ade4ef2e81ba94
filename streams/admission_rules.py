"""The rules of admission: what may be asked of a parse and for whom, over HTTP and on the bus."""

from dataclasses import dataclass

from schemas.errors import Code, PermanentError
from schemas.events import Mode, ParseOptions
from streams.admission import Terms
from streams.settings import check_mode, read_effective
from streams.tables.base import Tables

ALL_TENANTS = "*"

_ELSEWHERE: tuple[Mode, ...] = ("real", "hybrid")


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """What this deployment takes."""

    tables: Tables
    terms: Terms
    tenant_modes: frozenset[str]
    """The tenants that may choose a job's mode; `*` stands for all."""
    max_bytes: int
    """Of a document, unpacked."""

    async def check_options(self, tenant: str, options: ParseOptions) -> None:
        """Raise PermanentError for a mode that may not be chosen, and for what nobody would do.

        A local parser that stands in later says itself what it left out.
        """
        if options.mode is not None:
            self._check_choice(tenant, options.mode)
        asked = _only_elsewhere(options)
        if not asked:
            return
        mode = options.mode or await self._mode()
        if mode not in _ELSEWHERE:
            raise _refused(
                f"only LlamaParse can do what these ask: {', '.join(asked)}; this job would be "
                f"parsed in mode {mode}: {self._way_out(tenant)}"
            )

    def _check_choice(self, tenant: str, mode: Mode) -> None:
        if not self._may_choose(tenant):
            raise PermanentError(
                Code.FORBIDDEN,
                f"the tenant {tenant} may not choose a job's mode: leave it out, or ask the "
                "operator (PARSEWIRE_TENANT_MODES)",
            )
        try:
            check_mode(mode, self.terms.defaults)
        except PermanentError as error:
            raise _refused(error.message) from None

    def _may_choose(self, tenant: str) -> bool:
        return not self.tenant_modes.isdisjoint((tenant, ALL_TENANTS))

    async def _mode(self) -> Mode:
        defaults = self.terms.defaults
        found = await self.tables.read(lambda tx: read_effective(tx, defaults))
        return found.mode

    def _way_out(self, tenant: str) -> str:
        if self.terms.defaults.elsewhere and self._may_choose(tenant):
            return "leave them out, or add mode=hybrid"
        return "leave them out"


def too_large_text(max_bytes: int) -> str:
    """Say how large a document may be."""
    return f"a document may have {max_bytes} bytes, unpacked"


def _only_elsewhere(options: ParseOptions) -> list[str]:
    asked = {
        "tier": options.tier is not None,
        "languages": bool(options.languages),
        "prompt": options.prompt is not None,
        "disable_cache": options.disable_cache,
    }
    return [name for name, given in asked.items() if given]


def _refused(message: str) -> PermanentError:
    return PermanentError(Code.OPTION_NOT_SERVED, message)
