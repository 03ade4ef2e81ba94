"""Budgets over HTTP: shown to those whom they limit, changed by operators alone."""

from aiohttp import web

from schemas.errors import Code
from schemas.money import read_usd
from schemas.money_bodies import BudgetBody, BudgetOrder, FreezeOrder, FrozenBody
from services.budget_report import budget_body, read_budgets
from services.gateway.answers import answer
from services.gateway.cost_routes import check_parameters, tenant_of
from services.gateway.json_body import read_json
from services.gateway.parts import PARTS, Parts
from services.gateway.problems import RefusedError
from services.keys import Key, Role
from services.money_settings import SERVICES
from streams.budget_standing import read_standings
from streams.budgets import (
    Budget,
    Limits,
    Whose,
    freeze,
    read_whose,
    remove_budget,
    set_budget,
    unfreeze,
)
from streams.tables.base import Transaction


async def show_budgets(request: web.Request, key: Key) -> web.Response:
    """Show the budgets: all of them to operators, to tenants those that hold for them."""
    check_parameters(request, ())
    parts, tenant = request.app[PARTS], tenant_of(request, key)
    return answer(await parts.tables.read(lambda tx: read_budgets(tx, parts.zone, tenant)))


async def put_budget(request: web.Request, key: Key) -> web.Response:
    """Set a budget, and show it."""
    _check_operator(key)
    parts, whose = request.app[PARTS], _whose(request)
    budget = _budget(whose, await read_json(request, BudgetOrder))

    async def change(tx: Transaction) -> BudgetBody:
        await set_budget(tx, budget, _who(key), parts.zone)
        return await _shown(tx, whose, parts)

    return answer(await parts.tables.write(change))


async def delete_budget(request: web.Request, key: Key) -> web.Response:
    """Remove a budget."""
    _check_operator(key)
    whose = _whose(request)
    tables = request.app[PARTS].tables
    if not await tables.write(lambda tx: remove_budget(tx, whose, _who(key))):
        raise RefusedError(Code.NOT_FOUND, f"there is no budget {whose.id}")
    return web.Response(status=204)


async def freeze_spending(request: web.Request, key: Key) -> web.Response:
    """Stop all spending."""
    _check_operator(key)
    order = await read_json(request, FreezeOrder)
    await request.app[PARTS].tables.write(lambda tx: freeze(tx, order.policy, _who(key)))
    return answer(FrozenBody(order.policy))


async def unfreeze_spending(request: web.Request, key: Key) -> web.Response:
    """Let spending go on."""
    _check_operator(key)
    await request.app[PARTS].tables.write(lambda tx: unfreeze(tx, _who(key)))
    return answer(FrozenBody(None))


async def _shown(tx: Transaction, whose: Whose, parts: Parts) -> BudgetBody:
    return next(
        budget_body(found)
        for found in await read_standings(tx, parts.zone)
        if found.budget.whose == whose
    )


def _budget(whose: Whose, order: BudgetOrder) -> Budget:
    micro_usd = order.limit_micro_usd
    if order.limit_usd is not None:
        if micro_usd is not None:
            raise _invalid("give limit_usd or limit_micro_usd, not both")
        try:
            micro_usd = read_usd(order.limit_usd)
        except ValueError as error:
            raise _invalid(f"limit_usd: {error}") from None
    limits = Limits(micro_usd, order.limit_pages, order.limit_requests)
    return Budget(whose, limits, order.hard, order.policy)


def _whose(request: web.Request) -> Whose:
    place = request.match_info
    return read_whose(place["whose"], place["period"], SERVICES)


def _who(key: Key) -> str:
    return f"key {key.id} of {key.tenant}"


def _check_operator(key: Key) -> None:
    if key.role is not Role.OPERATOR:
        raise RefusedError(
            Code.FORBIDDEN, "budgets are changed by operators: `parsewire keys create --operator`"
        )


def _invalid(message: str) -> RefusedError:
    return RefusedError(Code.INVALID_REQUEST, message)
