// The frame of the live page is as high as what it shows, and light or dark as the page around it.
const site = document.documentElement;
for (const frame of document.querySelectorAll(".live-page")) {
  const follow = () => {
    const page = frame.contentDocument?.documentElement; // null if the site's pages are opened as files
    if (!page) return;
    const fit = () => (frame.style.height = `${page.offsetHeight}px`);
    const colour = () => (page.style.colorScheme = site.dataset.theme);
    new ResizeObserver(fit).observe(page);
    new MutationObserver(colour).observe(site, { attributeFilter: ["data-theme"] });
    colour();
  };
  frame.addEventListener("load", follow);
  follow();
}

// The theme's search button has another name than it shows, and the arrow that unfolds the contents has none.
document.querySelectorAll(".search-button-field").forEach((button) => button.removeAttribute("aria-label"));
for (const arrow of document.querySelectorAll(".bd-links summary")) {
  arrow.setAttribute("aria-label", arrow.closest("li").querySelector("a").textContent);
}
