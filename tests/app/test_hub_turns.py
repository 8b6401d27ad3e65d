"""Who goes to the hub next."""

import asyncio
from contextlib import AsyncExitStack

from app.hub.turns import PLACES, PLACES_EACH, Turns


def test_a_client_that_asks_much_leaves_places_to_others() -> None:
    async def act() -> None:
        turns, served = Turns(), list[str]()
        gate = asyncio.Event()

        async def look_up(client: str) -> None:
            async with turns.turn(client):
                served.append(client)
                await gate.wait()

        greedy = [asyncio.create_task(look_up("greedy")) for _ in range(2 * PLACES)]
        await asyncio.sleep(0)
        modest = asyncio.create_task(look_up("modest"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert served == ["greedy"] * PLACES_EACH + ["modest"]
        gate.set()
        await asyncio.gather(*greedy, modest)

    asyncio.run(act())


def test_clients_take_turns_where_all_places_are_taken() -> None:
    async def act() -> None:
        turns, served = Turns(places=1, each=1), list[str]()

        async def look_up(client: str) -> None:
            async with turns.turn(client):
                served.append(client)

        async with turns.turn("first"):
            waiting = [asyncio.create_task(look_up(client)) for client in ("a", "a", "a", "b", "c")]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert served == ["a", "b", "c", "a", "a"]

    asyncio.run(act())


def test_who_leaves_while_waiting_or_at_the_hub_takes_no_place_along() -> None:
    async def act() -> None:
        turns = Turns(places=1, each=1)

        async def stay() -> None:
            async with turns.turn("a"):
                await asyncio.sleep(60)

        inside, waiting = asyncio.create_task(stay()), asyncio.create_task(stay())
        await asyncio.sleep(0)
        waiting.cancel()
        inside.cancel()
        await asyncio.gather(inside, waiting, return_exceptions=True)
        async with asyncio.timeout(1), AsyncExitStack() as stack:
            await stack.enter_async_context(turns.turn("b"))

    asyncio.run(act())
