// The steps of the visitor, to go back and forth. A step is a state, which is never changed, and what led to it in words.

export class History {
  constructor(state) {
    this.steps = [{ state, label: "" }];
    this.index = 0;
  }

  get state() {
    return this.steps[this.index].state;
  }

  /** What Undo would take back, and what Redo would do again; null if there is nothing. */
  get undoes() {
    return this.index > 0 ? this.steps[this.index].label : null;
  }

  get redoes() {
    return this.steps[this.index + 1]?.label ?? null;
  }

  /** Go on from here. Steps in a row with the same `group` (a handle that is moved key by key) are one. */
  push(label, state, group = null) {
    const joins = group !== null && this.steps[this.index].group === group;
    this.steps.splice(joins ? this.index : this.index + 1);
    this.steps.push({ state, label, group });
    this.index = this.steps.length - 1;
  }

  undo() {
    this.steps[this.index].group = null;
    this.index = Math.max(this.index - 1, 0);
    return this.state;
  }

  redo() {
    this.index = Math.min(this.index + 1, this.steps.length - 1);
    return this.state;
  }
}
