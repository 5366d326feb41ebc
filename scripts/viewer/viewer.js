// Shows what slide.js describes: a slide, and over it a picture for each class, and one of the uncertainty if it is there.
"use strict";

// A bar of a round length is at most so long.
const LONGEST_BAR = 160;
const ROUND = [1, 2, 5];

function tileSource(picture) {
  const present = picture.tiles && new Set(picture.tiles);
  const source = new OpenSeadragon.TileSource({
    width: picture.width,
    height: picture.height,
    tileSize: picture.tile,
    minLevel: picture.levels[0],
    maxLevel: picture.levels[1],
  });
  source.getTileUrl = (level, x, y) => `${picture.folder}/${level}/${x}_${y}${picture.ending}`;
  if (present) {
    const inside = source.tileExists.bind(source);
    source.tileExists = (level, x, y) => inside(level, x, y) && present.has(`${level}/${x}_${y}`);
  }
  return source;
}

function areaText(class_) {
  if (class_ === SLIDE.unsure) return "";
  if (class_.area_mm2 === null) return `${class_.pixels.toLocaleString("en")} px`;
  return `${class_.area_mm2.toFixed(class_.area_mm2 < 10 ? 3 : 1)} mm²`;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

// What lies over the slide; the uncertainty is not shown until it is asked for.
const layers = [...SLIDE.classes, ...(SLIDE.unsure ? [SLIDE.unsure] : [])];

const byId = (id) => document.getElementById(id);

const viewer = OpenSeadragon({
  id: "viewer",
  prefixUrl: "../../../library/images/",
  // The other drawer cannot use pictures from the disk.
  drawer: "canvas",
  showNavigator: true,
  navigatorPosition: "TOP_RIGHT",
  maxZoomPixelRatio: 8,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
});

function applyOpacity() {
  const opacity = byId("opacity").value / 100;
  byId("opacity-value").textContent = `${byId("opacity").value} %`;
  for (const box of document.querySelectorAll("#classes input")) {
    // The slide is the picture below all others.
    viewer.world.getItemAt(Number(box.value) + 1)?.setOpacity(box.checked ? opacity : 0);
  }
}

function listLayer(layer, index) {
  const box = element("input", "");
  box.type = "checkbox";
  box.checked = layer !== SLIDE.unsure;
  box.value = index;
  box.addEventListener("change", applyOpacity);
  const swatch = element("span", "swatch");
  swatch.style.background = layer.color;
  const label = element("label", "");
  label.append(box, swatch, element("span", "name", layer.name), element("span", "area", areaText(layer)));
  const item = element("li", "");
  item.append(label);
  byId("classes").append(item);
}

function sayTrust({ word, reason }) {
  if (!word) return;
  byId("trust").dataset.word = word;
  byId("word").textContent = `${word[0].toUpperCase()}${word.slice(1)}.`;
  byId("reason").textContent = reason;
  byId("trust").hidden = false;
}

function drawScale() {
  const slide = viewer.world.getItemAt(0);
  if (!SLIDE.mpp || !slide) return;
  const micronsPerPixel = SLIDE.mpp / slide.viewportToImageZoom(viewer.viewport.getZoom(true));
  const longest = LONGEST_BAR * micronsPerPixel;
  const step = 10 ** Math.floor(Math.log10(longest));
  const length = Math.max(...ROUND.map((factor) => factor * step).filter((microns) => microns <= longest));
  byId("scale-bar").style.width = `${length / micronsPerPixel}px`;
  byId("scale-text").textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
  byId("scale").hidden = false;
}

document.title = `${SLIDE.name} – pathseg`;
byId("name").textContent = SLIDE.name;
sayTrust(SLIDE.trust);
layers.forEach(listLayer);
byId("unsure").hidden = !SLIDE.unsure;
byId("opacity").addEventListener("input", applyOpacity);
viewer.addHandler("open", () => {
  applyOpacity();
  drawScale();
});
viewer.addHandler("update-viewport", drawScale);
viewer.open([SLIDE.slide, ...layers].map((picture) => ({ tileSource: tileSource(picture), width: 1 })));
