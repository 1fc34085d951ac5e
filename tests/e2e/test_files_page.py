"""What people have on disk, in the browser: a checkpoint in one file drawn with a LoRA, and a pickle refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import torch
from playwright.sync_api import expect
from safetensors.torch import save_file

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS
from tests.e2e.served import Served, serve
from tests.tasks.test_loras import save_kohya
from tests.tiny_checkpoint import checkpoint_tensors, save_checkpoint, tiny_stable_diffusion, tiny_vae, vae_names


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A page over an A1111-style tree."""
    data = tmp_path_factory.mktemp("disk")
    tree, pipe = data / "tree", tiny_stable_diffusion(1)
    save_checkpoint(tree / "Stable-diffusion" / "dreams.safetensors", checkpoint_tensors(pipe, 1))
    (tree / "Stable-diffusion" / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    (tree / "Lora").mkdir()
    save_kohya(tree / "Lora" / "style.safetensors", pipe, 1)
    (tree / "embeddings").mkdir()
    save_file({"emb_params": torch.ones(3, 64)}, tree / "embeddings" / "blurred.safetensors")
    save_checkpoint(data / "elsewhere.safetensors", checkpoint_tensors(pipe, 1))
    save_checkpoint(tree / "VAE" / "smooth.safetensors", vae_names(tiny_vae()))
    served = serve(data, tree)
    yield served
    assert served.stop() == 0, "".join(served.said)
    assert "Traceback" not in "".join(served.said)


def test_a_checkpoint_is_chosen_and_drawn_with_a_lora(disk: Served, visitors_of: Callable[[Served], Visitors]) -> None:
    create = visitors_of(disk).visit("en-US")
    page = create.page
    page.locator("#model input").click()
    page.get_by_role("option", name="dreams").click()
    expect(page.locator("#about-model")).to_contain_text("128 × 128")
    expect(create.number("width")).to_have_value("128")
    page.locator("#loras button").first.click()
    page.locator("#lora-name input").click()
    page.get_by_role("option", name="style").click()
    page.locator("#lora-weight input[type=number]").fill("0.8")
    create.prompt.fill("a cat")
    expect(create.tokens).to_contain_text("4 of 77")
    page.locator("#lora-add").click()
    expect(create.prompt).to_have_value("a cat <lora:style:0.8>")
    expect(create.tokens).to_contain_text("4 of 77")
    page.locator("#inversion-name input").click()
    page.get_by_role("option", name="blurred").click()
    page.locator("#inversion-add-negative").click()
    expect(page.locator("#negative-prompt textarea")).to_have_value("blurred")
    page.locator("#inversion-add").click()
    expect(create.prompt).to_have_value("a cat <lora:style:0.8>, blurred")
    expect(create.tokens).to_contain_text("8 of 77")
    create.prompt.fill("a cat <lora:style:0.8>")
    page.locator("#vae-panel button").first.click()
    page.locator("#vae input").click()
    page.get_by_role("option", name="smooth").click()
    for name, value in {"width": 32, "height": 32, "steps": 2}.items():
        create.set(name, value)
    create.generate.click()
    create.wait_until_done()
    expect(create.parameters).to_contain_text("a cat <lora:style:0.8>")
    expect(create.parameters).to_contain_text("blurred")
    expect(create.parameters).to_contain_text("smooth")

    create.open_tab("Models")
    cards = page.locator("#models-list .model-list > li")
    expect(cards.filter(has_text="Stable-diffusion/dreams")).to_contain_text("single file", timeout=RUN_MS)
    page.locator("#models-typed input").fill(str(disk.outputs.parent / "elsewhere.safetensors"))
    page.locator("#models-look").click()
    expect(page.locator("#models-plan")).to_contain_text("elsewhere is listed now", timeout=RUN_MS)
    added = cards.filter(has_text="elsewhere")
    expect(added).to_have_count(1)
    added.get_by_role("button", name="Remove from the list").click()
    expect(added).to_have_count(0, timeout=RUN_MS)
    expect(cards.filter(has_text="old.ckpt")).to_contain_text("is a pickle")
    expect(cards.filter(has_text=re.compile(r"LoRA · \d+ KiB"))).to_contain_text("style")
