"use strict";

const scene = JSON.parse(document.getElementById("scene").textContent);
const element = (id) => document.getElementById(id);

const minus = (a, b) => a.map((value, axis) => value - b[axis]);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((value) => value / (Math.hypot(...a) || 1));

// ---- data ----------------------------------------------------------------------------------------------------------

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function rgb(color) {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255);
}

// A layer of zeros around the channel closes its surfaces.
function padded(channel) {
  const [nx, ny, nz] = channel.shape;
  const values = bytes(channel.values);
  const size = [nx + 2, ny + 2, nz + 2];
  const field = new Uint8Array(size[0] * size[1] * size[2]);
  for (let x = 0; x < nx; x++) {
    for (let y = 0; y < ny; y++) {
      const row = (x * ny + y) * nz;
      field.set(values.subarray(row, row + nz), ((x + 1) * size[1] + y + 1) * size[2] + 1);
    }
  }
  return { field, size };
}

// ---- surface nets: one vertex in every cell that the surface crosses, one quad for every edge that it crosses ---------

function surface(channel, level) {
  const { field, size } = channel;
  const threshold = (level / channel.peak) * 255;
  const [nx, ny, nz] = size;
  const step = [ny * nz, nz, 1];
  const corners = [];
  for (let c = 0; c < 8; c++) corners.push((c >> 2) * step[0] + ((c >> 1) & 1) * step[1] + (c & 1));
  const edges = [];
  for (let a = 0; a < 8; a++) for (const bit of [4, 2, 1]) if (!(a & bit)) edges.push([a, a | bit]);

  const cell = new Int32Array(field.length).fill(-1);
  const position = [], normal = [], index = [];
  for (let x = 0; x < nx - 1; x++) for (let y = 0; y < ny - 1; y++) for (let z = 0; z < nz - 1; z++) {
    const at = x * step[0] + y * step[1] + z;
    let inside = 0;
    for (let c = 0; c < 8; c++) if (field[at + corners[c]] > threshold) inside |= 1 << c;
    if (inside === 0 || inside === 255) continue;
    let count = 0, px = 0, py = 0, pz = 0;
    for (const [a, b] of edges) {
      if (((inside >> a) & 1) === ((inside >> b) & 1)) continue;
      const fa = field[at + corners[a]], fb = field[at + corners[b]];
      const t = (threshold - fa) / (fb - fa);
      px += (a >> 2) + t * ((b >> 2) - (a >> 2));
      py += ((a >> 1) & 1) + t * (((b >> 1) & 1) - ((a >> 1) & 1));
      pz += (a & 1) + t * ((b & 1) - (a & 1));
      count++;
    }
    cell[at] = position.length / 3;
    const p = [x + px / count, y + py / count, z + pz / count];
    for (let axis = 0; axis < 3; axis++) {
      position.push(scene.extent[axis][0] + (channel.start[axis] - 1 + p[axis]) * scene.resolution);
    }
    normal.push(...slope(channel, p));
  }
  for (let axis = 0; axis < 3; axis++) {
    const along = step[axis], u = step[(axis + 1) % 3], v = step[(axis + 2) % 3];
    for (let at = u + v; at < field.length - along; at++) {
      const here = field[at] > threshold;
      if (here === field[at + along] > threshold) continue;
      const quad = [cell[at], cell[at - u], cell[at - u - v], cell[at - v]];
      if (quad.includes(-1)) continue;
      const [a, b, c, d] = here ? quad : quad.reverse();
      index.push(a, b, c, a, c, d);
    }
  }
  return { position: new Float32Array(position), normal: new Float32Array(normal), index: new Uint32Array(index) };
}

function sample({ field, size }, p) {
  const low = p.map((value, axis) => Math.max(0, Math.min(size[axis] - 2, Math.floor(value))));
  let total = 0;
  for (let c = 0; c < 8; c++) {
    const bit = [c >> 2, (c >> 1) & 1, c & 1];
    let weight = 1;
    for (let axis = 0; axis < 3; axis++) {
      const t = Math.max(0, Math.min(1, p[axis] - low[axis]));
      weight *= bit[axis] ? t : 1 - t;
    }
    total += weight * field[((low[0] + bit[0]) * size[1] + low[1] + bit[1]) * size[2] + low[2] + bit[2]];
  }
  return total;
}

// Outward: against the slope of the density.
function slope(channel, p) {
  const out = [0, 1, 2].map((axis) => {
    const ahead = p.slice(), behind = p.slice();
    ahead[axis] += 0.8;
    behind[axis] -= 0.8;
    return sample(channel, behind) - sample(channel, ahead);
  });
  const length = Math.hypot(...out) || 1;
  return out.map((value) => value / length);
}

// ---- sticks ----------------------------------------------------------------------------------------------------------

function stickMesh(sticks) {
  const coords = new Float32Array(bytes(sticks.coords).buffer);
  const bonds = new Uint32Array(bytes(sticks.bonds).buffer);
  const tint = Array.from(bytes(sticks.colors), (entry) => rgb(sticks.palette[entry]));
  const hydrogen = bytes(sticks.hydrogen);
  const mesh = { position: [], normal: [], color: [], index: [] };
  const atom = (i) => [coords[3 * i], coords[3 * i + 1], coords[3 * i + 2]];
  for (let bond = 0; bond < bonds.length; bond += 2) {
    const [i, j] = [bonds[bond], bonds[bond + 1]];
    const [a, b] = [atom(i), atom(j)];
    const middle = a.map((value, axis) => (value + b[axis]) / 2);
    const radius = sticks.radius * (hydrogen[i] || hydrogen[j] ? 0.6 : 1);
    addCylinder(mesh, a, middle, radius, tint[i]);
    addCylinder(mesh, b, middle, radius, tint[j]);
  }
  for (let i = 0; i < hydrogen.length; i++) {
    addSphere(mesh, atom(i), sticks.radius * (hydrogen[i] ? 0.6 : 1.55), tint[i]);
  }
  return {
    position: new Float32Array(mesh.position), normal: new Float32Array(mesh.normal),
    color: new Float32Array(mesh.color), index: new Uint32Array(mesh.index),
  };
}

function addCylinder(mesh, a, b, radius, color) {
  const along = unit(minus(b, a));
  const side = unit(cross(along, Math.abs(along[0]) < 0.8 ? [1, 0, 0] : [0, 1, 0]));
  const other = cross(along, side);
  const n = 12, first = mesh.position.length / 3;
  for (let k = 0; k < n; k++) {
    const [c, s] = [Math.cos((2 * Math.PI * k) / n), Math.sin((2 * Math.PI * k) / n)];
    const out = side.map((value, axis) => c * value + s * other[axis]);
    for (const end of [a, b]) {
      mesh.position.push(...end.map((value, axis) => value + radius * out[axis]));
      mesh.normal.push(...out);
      mesh.color.push(...color);
    }
    const [p, q] = [first + 2 * k, first + 2 * ((k + 1) % n)];
    mesh.index.push(p, q, q + 1, p, q + 1, p + 1);
  }
}

function addSphere(mesh, center, radius, color) {
  const rings = 8, n = 14, first = mesh.position.length / 3;
  for (let r = 0; r <= rings; r++) for (let k = 0; k < n; k++) {
    const [up, turn] = [(Math.PI * r) / rings, (2 * Math.PI * k) / n];
    const out = [Math.sin(up) * Math.cos(turn), Math.sin(up) * Math.sin(turn), Math.cos(up)];
    mesh.position.push(...center.map((value, axis) => value + radius * out[axis]));
    mesh.normal.push(...out);
    mesh.color.push(...color);
  }
  for (let r = 0; r < rings; r++) for (let k = 0; k < n; k++) {
    const [p, q] = [first + r * n + k, first + r * n + ((k + 1) % n)];
    mesh.index.push(p, p + n, q + n, p, q + n, q);
  }
}

function boxMesh() {
  const position = [], index = [];
  for (let c = 0; c < 8; c++) [4, 2, 1].forEach((bit, axis) => position.push(scene.extent[axis][c & bit ? 1 : 0]));
  for (let a = 0; a < 8; a++) for (const bit of [4, 2, 1]) if (!(a & bit)) index.push(a, a | bit);
  return { position: new Float32Array(position), index: new Uint32Array(index) };
}
