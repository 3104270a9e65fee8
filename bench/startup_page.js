/* SPDX-License-Identifier: Apache-2.0 */
"use strict";
/*
 * Draws the time line of every start from the JSON in the page. One path for each lane, not one
 * element for each request, so that a page of a hundred starts stays light; what is under the
 * pointer is found in the data and told below the picture.
 */
(function () {
	const SVG = "http://www.w3.org/2000/svg";
	const WIDTH = 1000, LEFT = 96, RIGHT = 16;
	const data = JSON.parse(document.getElementById("data").textContent);
	const LANES = [
		["open", "opening", ["manifest", "config", "list", "open"]],
		["prefetch", "prefetch", ["prefetch"]],
		["demand", "on demand", ["demand"]],
		["request", "requests", ["request"]],
	];

	function element(parent, name, attributes, text) {
		const e = document.createElementNS(SVG, name);
		for (const key in attributes)
			e.setAttribute(key, attributes[key]);
		if (text !== undefined)
			e.textContent = text;
		parent.appendChild(e);
		return e;
	}

	function seconds(s) {
		return s < 1 ? (s * 1000).toFixed(s < 0.1 ? 1 : 0) + " ms" : s.toFixed(2) + " s";
	}

	function size(bytes) {
		return bytes >= 1e6 ? (bytes / 1e6).toFixed(2) + " MB"
			: bytes >= 1e3 ? (bytes / 1e3).toFixed(1) + " kB" : bytes + " B";
	}

	/* A step for about ten ticks: 1, 2 or 5 times a power of ten. */
	function tick_step(end) {
		const raw = end / 10, power = Math.pow(10, Math.floor(Math.log10(raw)));
		const f = raw / power;
		return power * (f <= 1 ? 1 : f <= 2 ? 2 : f <= 5 ? 5 : 10);
	}

	function axis(svg, x, end, top, bottom) {
		const step = tick_step(end), digits = Math.max(0, Math.min(3, -Math.floor(Math.log10(step))));
		for (let i = 0; i * step <= end * 1.0001; i++) {
			const at = x(i * step);
			element(svg, "line", {class: "grid", x1: at, x2: at, y1: top, y2: bottom});
			if (at < WIDTH - 24)
				element(svg, "text", {class: "label", x: at, y: bottom + 14, "text-anchor": i ? "middle" : "start"},
					i ? (i * step).toFixed(digits) : "0 s");
		}
	}

	/* Puts bars into as few rows as keep them apart; sets row, returns how many there are. */
	function pack(items) {
		const free = [];
		items.sort((a, b) => a.from - b.from || a.to - b.to);
		for (const item of items) {
			let row = free.findIndex(t => t <= item.from);
			if (row < 0)
				row = free.length;
			free[row] = item.to;
			item.row = row;
		}
		return free.length;
	}

	function bar_path(items, x, y, pitch, height, end) {
		let d = "";
		for (const i of items) {
			const a = x(Math.max(0, i.from)), b = Math.max(a + 0.8, x(Math.min(i.to, end)));
			d += "M" + a.toFixed(1) + " " + (y + i.row * pitch).toFixed(1) + "h" + (b - a).toFixed(1) +
				"v" + height + "h-" + (b - a).toFixed(1) + "z";
		}
		return d;
	}

	/* What had arrived by when, as a stack: the first kind at the bottom. */
	function arrivals(svg, start, x, y, height, end) {
		const kinds = [["prefetch", "prefetch"], ["open", "open"], ["demand", "demand"], ["request", "request"]];
		const events = [];
		for (const r of start.requests) {
			/* a large answer arrives little by little */
			const pieces = Math.max(1, Math.min(50, Math.floor(r.bytes / 131072)));
			for (let i = 1; i <= pieces && r.bytes; i++)
				events.push({at: r.from + (r.to - r.from) * i / pieces, bytes: r.bytes / pieces,
					kind: lane_of(r.kind)});
		}
		events.sort((a, b) => a.at - b.at);
		while (events.length && events[events.length - 1].at > end)
			events.pop();
		const total = events.reduce((sum, e) => sum + e.bytes, 0);
		if (!total)
			return 0;
		let below = null;
		for (const [kind, css] of kinds) {
			const sums = [];
			let sum = 0;
			for (const e of events) {
				sum += e.kind === kind ? e.bytes : 0;
				sums.push(sum);
			}
			const stacked = sums.map((s, i) => s + (below ? below[i] : 0));
			if (sum) {
				let d = "M" + x(0) + " " + (y + height), py = y + height;
				const back = [];
				events.forEach((e, i) => {
					const ny = y + height - height * stacked[i] / total, ax = x(e.at).toFixed(1);
					d += "L" + ax + " " + py.toFixed(1) + "L" + ax + " " + ny.toFixed(1);
					py = ny;
					back.push([ax, y + height - height * (below ? below[i] : 0) / total]);
				});
				d += "L" + x(end).toFixed(1) + " " + py.toFixed(1);
				let by = back[back.length - 1][1];
				d += "L" + x(end).toFixed(1) + " " + by.toFixed(1);
				for (let i = back.length - 1; i >= 0; i--) {
					d += "L" + back[i][0] + " " + by.toFixed(1);
					by = i ? back[i - 1][1] : y + height;
					d += "L" + back[i][0] + " " + by.toFixed(1);
				}
				element(svg, "path", {class: css + " area", d: d + "z"});
			}
			below = stacked;
		}
		return total;
	}

	function lane_of(kind) {
		for (const [lane, , kinds] of LANES)
			if (kinds.includes(kind))
				return lane;
		return "request";
	}

	function draw_start(figure, start) {
		const end = start.ready_s * 1.06;
		const x = t => LEFT + (WIDTH - LEFT - RIGHT) * Math.min(t, end) / end;
		const svg = element(figure.querySelector(".scroll"), "svg", {role: "img", "aria-label": start.told});
		const grid = element(svg, "g", {});
		const readouts = [];
		let y = 22, rows = 0;

		function lane(label, items, css, pitch, height) {
			const shown = items.filter(i => i.from < end);
			if (!shown.length)
				return;
			const count = pack(shown), tall = Math.max(count * pitch, 12);
			element(grid, "rect", {class: "band", x: LEFT, y: y - 2, width: WIDTH - LEFT - RIGHT, height: tall + 4});
			element(svg, "text", {class: "label", x: LEFT - 8, y: y + Math.min(tall, 14) / 2 + 4,
				"text-anchor": "end"}, label);
			element(svg, "path", {class: css, d: bar_path(shown, x, y, pitch, height, end)});
			readouts.push({items: shown, y: y, pitch: pitch, bottom: y + tall});
			y += tall + 8;
			rows += count;
		}

		if (start.phases.length) {
			element(svg, "text", {class: "label", x: LEFT - 8, y: y + 12, "text-anchor": "end"}, "phases");
			start.phases.filter(p => p.from < end).forEach((p, i) => {
				const a = x(Math.max(0, p.from)), b = x(p.to);
				element(svg, "rect", {class: "phase-" + i % 2, x: a, y: y, width: Math.max(b - a, 0.8), height: 17});
				if (b - a > p.what.length * 6.6 + 6)
					element(svg, "text", {x: a + 4, y: y + 13}, p.what);
			});
			readouts.push({items: start.phases.map(p => Object.assign({row: 0}, p)), y: y, pitch: 17, bottom: y + 17});
			y += 25;
			rows++;
		}
		for (const [css, label, kinds] of LANES) {
			const items = start.requests.filter(r => kinds.includes(r.kind));
			const dense = items.length > 60;
			lane(label, items, css, dense ? 4 : 7, dense ? 3.2 : 5.5);
		}
		lane("waited", start.stalls, "wait", 7, 5.5);
		const below = y;
		const total = arrivals(svg, start, x, y, 34, end);
		if (total) {
			element(svg, "text", {class: "label", x: LEFT - 8, y: y + 12, "text-anchor": "end"}, "arrived");
			element(svg, "text", {class: "label", x: LEFT - 8, y: y + 26, "text-anchor": "end"}, size(total));
			y += 42;
			rows++;
		}
		axis(grid, x, end, 18, y);
		const at = x(start.ready_s);
		element(svg, "line", {class: "ready", x1: at, x2: at, y1: 14, y2: y});
		element(svg, "text", {class: "ready-text", x: at + 4, y: 11, "text-anchor": "end"},
			"ready " + seconds(start.ready_s));
		const hair = element(svg, "line", {class: "hair", y1: 18, y2: y});
		svg.setAttribute("viewBox", "0 0 " + WIDTH + " " + (y + 20));
		svg.dataset.rows = rows;
		read_out(svg, figure.querySelector(".readout"), readouts, hair, end, below);
		return rows;
	}

	function read_out(svg, out, readouts, hair, end) {
		svg.addEventListener("pointermove", event => {
			const box = svg.getBoundingClientRect(), scale = WIDTH / box.width;
			const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
			const t = (px - LEFT) / (WIDTH - LEFT - RIGHT) * end, slack = 2 / (WIDTH - LEFT - RIGHT) * end;
			if (t < 0 || t > end)
				return;
			hair.setAttribute("x1", px);
			hair.setAttribute("x2", px);
			hair.style.visibility = "visible";
			let text = seconds(t);
			for (const r of readouts)
				if (py >= r.y && py <= r.bottom)
					for (const i of r.items)
						if (i.row === Math.floor((py - r.y) / r.pitch) && t >= i.from - slack && t <= i.to + slack) {
							text += ": " + (i.what || i.kind || "waited") + ", " + seconds(i.from) + " to " +
								seconds(i.to) + " (" + seconds(i.to - i.from) + ")" +
								(i.bytes ? ", " + size(i.bytes) : "");
							break;
						}
			out.textContent = text;
		});
		svg.addEventListener("pointerleave", () => {
			hair.style.visibility = "hidden";
			out.textContent = "";
		});
	}

	function draw_bars(holder, image) {
		const rows = image.bars, pitch = 24, left = 120;
		const end = Math.max(...rows.map(r => r.max)) * 1.02;
		const x = t => left + (WIDTH - left - 250) * t / end;
		const svg = element(holder, "svg", {role: "img", viewBox: "0 0 " + WIDTH + " " + (rows.length * pitch + 42),
			"aria-label": rows.map(r => r.variant + " " + seconds(r.median)).join(", ")});
		const grid = element(svg, "g", {}), bottom = rows.length * pitch + 20;
		const step = tick_step(end), digits = Math.max(0, -Math.floor(Math.log10(step)));
		for (let i = 0; i * step <= end; i++) {
			element(grid, "line", {class: "grid", x1: x(i * step), x2: x(i * step), y1: 18, y2: bottom});
			element(grid, "text", {class: "label", x: x(i * step), y: bottom + 15,
				"text-anchor": i ? "middle" : "start"}, i ? (i * step).toFixed(digits) : "0 s");
		}
		if (image.bound_s && image.bound_s < end) {
			element(svg, "line", {class: "bound", x1: x(image.bound_s), x2: x(image.bound_s), y1: 14, y2: bottom});
			element(svg, "text", {class: "ready-text", x: x(image.bound_s), y: 11}, "lower bound " +
				seconds(image.bound_s));
		}
		rows.forEach((r, i) => {
			const y = 22 + i * pitch, css = "bar" + (r.pull ? " pull" : "") + (r.again ? " again" : "");
			element(svg, "text", {x: left - 8, y: y + 13, "text-anchor": "end"}, r.variant);
			element(svg, "rect", {class: css, x: left, y: y + 1, width: Math.max(x(r.median) - left, 1), height: 16});
			if (r.max > r.min)
				element(svg, "path", {class: "whisker", d: "M" + x(r.min) + " " + (y + 9) + "H" + x(r.max)});
			element(svg, "text", {class: "value", x: x(r.max) + 8, y: y + 13}, seconds(r.median) +
				(r.ratio && !r.pull ? " \u2014 classic takes " + r.ratio.toFixed(1) + " times as long" : ""));
		});
	}

	let drawn = 0;
	for (const image of data.images) {
		const bars = document.getElementById("bars-" + image.name);
		if (bars && image.bars.length)
			draw_bars(bars, image);
		for (const start of image.starts) {
			const figure = document.getElementById(start.id);
			if (draw_start(figure, start))
				drawn++;
		}
	}
	document.documentElement.dataset.drawn = drawn;
	/* what is folded is printed too */
	addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => d.open = true));
})();
