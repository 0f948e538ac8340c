"""What axe-core finds wrong with a page for those who see it otherwise, or not at all. https://github.com/dequelabs/axe-core"""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# what is dimmed while it is replaced has no contrast to judge
STILL = """() => !document.querySelector('[aria-busy], .pending')
    && document.getAnimations().every(each => each.playState !== 'running')"""


def problems(page: Page) -> list[str]:
    """By rule, with its impact: every one that axe-core has, of WCAG and of good practice, once it stands still."""
    page.wait_for_function(STILL)
    return [
        f"{found['id']} ({found['impact']}): {node['html'][:200]}: {node['failureSummary']}"
        for found in Axe().run(page).response["violations"]
        for node in found["nodes"]
    ]
