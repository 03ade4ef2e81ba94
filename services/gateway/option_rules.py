"""Option rules: which options this deployment can honour, and for whom."""

from schemas.errors import Code, PermanentError
from schemas.events import Mode, ParseOptions
from services.gateway.parts import Parts
from services.gateway.problems import RefusedError
from streams.settings import check_mode, read_effective

ALL_TENANTS = "*"

_ELSEWHERE: tuple[Mode, ...] = ("real", "hybrid")


async def check_options(parts: Parts, tenant: str, options: ParseOptions) -> None:
    """Raise RefusedError for a mode that may not be chosen, and for what nobody would carry out.

    A local parser that stands in later says itself what it left out.
    """
    if options.mode is not None:
        _check_choice(parts, tenant, options.mode)
    asked = _only_elsewhere(options)
    if not asked:
        return
    mode = options.mode or await _mode(parts)
    if mode not in _ELSEWHERE:
        raise _refused(
            f"only LlamaParse can do what these ask: {', '.join(asked)}; this job would be parsed "
            f"in mode {mode}: {_way_out(parts, tenant)}"
        )


def _check_choice(parts: Parts, tenant: str, mode: Mode) -> None:
    if not _may_choose(parts, tenant):
        raise RefusedError(
            Code.FORBIDDEN,
            f"the tenant {tenant} may not choose a job's mode: leave it out, or ask the operator "
            "(PARSEWIRE_TENANT_MODES)",
        )
    try:
        check_mode(mode, parts.defaults)
    except PermanentError as error:
        raise _refused(error.message) from None


def _may_choose(parts: Parts, tenant: str) -> bool:
    return not parts.tenant_modes.isdisjoint((tenant, ALL_TENANTS))


def _only_elsewhere(options: ParseOptions) -> list[str]:
    asked = {
        "tier": options.tier is not None,
        "languages": bool(options.languages),
        "prompt": options.prompt is not None,
        "disable_cache": options.disable_cache,
    }
    return [name for name, given in asked.items() if given]


async def _mode(parts: Parts) -> Mode:
    found = await parts.tables.read(lambda tx: read_effective(tx, parts.defaults))
    return found.mode


def _way_out(parts: Parts, tenant: str) -> str:
    if parts.defaults.elsewhere and _may_choose(parts, tenant):
        return "leave them out, or add mode=hybrid"
    return "leave them out"


def _refused(message: str) -> RefusedError:
    return RefusedError(Code.OPTION_NOT_SERVED, message)
