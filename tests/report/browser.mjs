// Opens a page in headless Chromium at two widths, in light and dark, without network. Prints what
// it measured as JSON and leaves screenshots. Arguments: the page, a folder for the screenshots.
import chromium from '@sparticuz/chromium';
import puppeteer from 'puppeteer-core';

const [page_url, folder] = process.argv.slice(2);
const browser = await puppeteer.launch({
  args: [...chromium.args, '--no-sandbox'],
  executablePath: await chromium.executablePath(),
  headless: 'shell',
});
const seen = [];
for (const width of [1280, 390]) {
  for (const scheme of ['light', 'dark']) {
    const page = await browser.newPage();
    const problems = [];
    page.on('request', (request) => {
      if (request.url() !== page_url) problems.push(request.url());
    });
    page.on('console', (message) => problems.push(message.text()));
    await page.setOfflineMode(true);
    const isPhone = width < 600;
    await page.setViewport({
      width, height: 900, isMobile: isPhone, hasTouch: isPhone, deviceScaleFactor: isPhone ? 2 : 1,
    });
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
    await page.goto(page_url);
    const measured = await page.evaluate(() => {
      const texts = [...document.querySelectorAll('svg text')];
      const size = (text) => {
        const scale = text.getScreenCTM();
        return Math.hypot(scale.a, scale.b) * parseFloat(getComputedStyle(text).fontSize);
      };
      return {
        scroll: document.documentElement.scrollWidth,
        background: getComputedStyle(document.body).backgroundColor,
        ink: getComputedStyle(texts[0]).fill,
        smallest: Math.min(...texts.filter((text) => text.textContent.trim()).map(size)),
      };
    });
    await page.screenshot({ path: `${folder}/report-${width}-${scheme}.png`, fullPage: true });
    seen.push({ width, scheme, problems, ...measured });
    await page.close();
  }
}
await browser.close();
console.log(JSON.stringify(seen));
