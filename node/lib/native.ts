import type * as binding from '../native/index.js';

import { noBinaryError } from './platform.js';

/** The native half, as `napi build` makes it. */
export const native = load() as typeof binding;

export namespace native {
  /** @see binding.WindowCount */
  export type WindowCount = binding.WindowCount;
}

/**
 * Loads the binary of this platform: one built here, or that of the platform's package. Each `require` is written out and stands
 * directly in a `try`, so that bundlers and tracers of files see all that can be loaded, and do not object to what is not installed.
 */
function load(): unknown {
  const errors: unknown[] = [];
  switch (`${process.platform}-${process.arch}`) {
    case 'linux-x64':
      try {
        return require('../native/tallymesh.linux-x64-gnu.node');
      } catch (error) {
        errors.push(error);
      }
      try {
        return require('tallymesh-linux-x64-gnu');
      } catch (error) {
        errors.push(error);
      }
      break;
    case 'linux-arm64':
      try {
        return require('../native/tallymesh.linux-arm64-gnu.node');
      } catch (error) {
        errors.push(error);
      }
      try {
        return require('tallymesh-linux-arm64-gnu');
      } catch (error) {
        errors.push(error);
      }
      break;
    case 'darwin-x64':
      try {
        return require('../native/tallymesh.darwin-x64.node');
      } catch (error) {
        errors.push(error);
      }
      try {
        return require('tallymesh-darwin-x64');
      } catch (error) {
        errors.push(error);
      }
      break;
    case 'darwin-arm64':
      try {
        return require('../native/tallymesh.darwin-arm64.node');
      } catch (error) {
        errors.push(error);
      }
      try {
        return require('tallymesh-darwin-arm64');
      } catch (error) {
        errors.push(error);
      }
      break;
    case 'win32-x64':
      try {
        return require('../native/tallymesh.win32-x64-msvc.node');
      } catch (error) {
        errors.push(error);
      }
      try {
        return require('tallymesh-win32-x64-msvc');
      } catch (error) {
        errors.push(error);
      }
      break;
  }
  throw noBinaryError(errors);
}
