"""The atlas as MCP's tools, by the official client."""

import asyncio
import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_space import brief
from tests.atlases import MODEL

KEY = f"{MODEL}/blocks_4/2"


def test_a_unit_in_brief_is_short(known: Atlas) -> None:
    told = brief.brief_unit(known, Key(MODEL, "blocks_4", 2))
    assert len(json.dumps(told)) < 8_000
    assert told["key"] == KEY
    assert [each["direction"] for each in told["made"]] == [1, -1, 1, -1]
    assert all(each["picture"].startswith("./picture?") for each in (*told["made"], *told["samples"]))
    assert set(told["connections"]) <= {
        f"{verb} {MODEL}/blocks_{at}" for verb in ("excited by", "inhibited by", "excites", "inhibits") for at in (3, 5)
    }
    assert "texts" not in told  # of which this atlas has none
    absent = brief.brief_unit(known, Key(MODEL, "blocks_4", 39))
    assert set(absent) == {"key", "page", "picture"}


def test_a_layer_in_brief_names_its_strongest_units(known: Atlas) -> None:
    told = brief.brief_layer(known, Key(MODEL, "blocks_4"))
    assert (told["num_units"], told["num_rendered"], told["before"], told["after"]) == (40, 4, None, "blocks_6")
    maxima = [each["maximum"] for each in told["strongest"]]
    assert len(maxima) == 4 and maxima == sorted(maxima, reverse=True)


def test_the_official_client_gets_brief_answers_and_pictures(server: str, known: Atlas) -> None:
    mcp = pytest.importorskip("mcp", reason="needs the extra [mcp]")
    from mcp.client.streamable_http import streamable_http_client

    async def asked() -> tuple[list[Any], dict[str, Any]]:
        async with (
            streamable_http_client(f"{server}/mcp") as (read, write, _),
            mcp.ClientSession(read, write) as client,
        ):
            await client.initialize()
            tools = (await client.list_tools()).tools
            place = {"model": MODEL, "layer": "blocks_4"}
            calls = {
                "unit": {**place, "unit": 2},
                "layer": place,
                "search": {"words": "blocks 4 2"},
                "picture": {"key": KEY},
                "nowhere": {"key": f"{MODEL}/blocks_4/40"},
            }
            names = {name: "picture" if name == "nowhere" else name for name in calls}
            return tools, {name: await client.call_tool(names[name], given) for name, given in calls.items()}

    tools, said = asyncio.run(asked())
    assert [tool.name for tool in tools] == ["search", "unit", "layer", "picture"]
    unit = said["unit"].structuredContent
    assert unit["page"] == f"{server}/{KEY}?revision={known.pin}"
    assert json.loads(said["unit"].content[0].text) == unit
    assert said["layer"].structuredContent["num_units"] == 40
    assert said["search"].structuredContent["found"][0]["key"] == KEY
    assert max(len(each.content[0].text) for name, each in said.items() if name != "picture") < 8_000
    picture, about = said["picture"].content
    assert (picture.type, picture.mimeType, about.type) == ("image", "image/jpeg", "text")
    made = next(row for row in known.rows("feature_visualization", MODEL, "blocks_4", 2) if row["direction"] > 0)
    assert base64.b64decode(picture.data) == known.image("feature_visualization", MODEL, made["image"])
    assert Image.open(io.BytesIO(base64.b64decode(picture.data))).size == (32, 32)
    assert said["nowhere"].isError and "nearest" in said["nowhere"].content[0].text
