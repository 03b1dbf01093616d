// A table: what its columns are, and one row of one height for each item.
//
// The roles are written out because a phone's width turns rows into cards, and a browser then forgets that it was a table.

import { classes, html } from "../ui.js";

/**
 * columns: {name, label, kind: "n" for numbers, draw(item)}; `label` may be drawn. keyOf(item) is unique.
 * rest: what the body listens to.
 */
export function Table({ label, className, columns, items, keyOf, stale = false, rowKind, ...rest }) {
  return html`<table class=${classes("table", className, stale && "stale")} role="table" aria-label=${label}>
    <thead role="rowgroup">
      <tr role="row">
        ${columns.map(
          (column) => html`<th key=${column.name} role="columnheader" scope="col" class=${classes(column.kind, `c-${column.name}`)}>${column.label}</th>`,
        )}
      </tr>
    </thead>
    <tbody role="rowgroup" ...${rest}>
      ${items.map(
        (item) => html`<tr key=${keyOf(item)} role="row" data-kind=${rowKind?.(item)}>
          ${columns.map(
            (column) => html`<td key=${column.name} role="cell" class=${classes(column.kind, `c-${column.name}`)} data-label=${typeof column.label === "string" ? column.label : ""}>${column.draw(item)}</td>`,
          )}
        </tr>`,
      )}
    </tbody>
  </table>`;
}

/** Where a list would be: nothing to show, and what that means. While it is not known, room is kept and nothing said. */
export const Empty = ({ children }) => html`<p class="empty"><span>${children}</span></p>`;
export const Waiting = () => html`<p class="empty waiting" role="status"><span>Loading</span></p>`;
