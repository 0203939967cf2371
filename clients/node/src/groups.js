// Methods on brands and models; `ask` makes a unary call of their service.

export class Brands {
  constructor(ask, add) {
    this.add = add;
    this.create = async (brandId, { name = '', ...options } = {}) =>
      (await ask('createBrand', { brandId, name }, { ...options, repeatable: false })).brand;
    this.get = async (brandId, options) => (await ask('getBrand', { brandId }, options)).brand;
    this.delete = async (brandId, options) => {
      await ask('deleteBrand', { brandId }, { ...options, repeatable: false });
    };
    this.remove = async (brandId, referenceId, options) =>
      (await ask('removeReferenceImage', { brandId, referenceId }, { ...options, repeatable: false })).brand;
    this.list = async (options) => {
      const brands = [];
      for (let pageToken = ''; ; ) {
        const page = await ask('listBrands', { pageToken }, options);
        brands.push(...page.brands);
        if (!(pageToken = page.nextPageToken)) return brands;
      }
    };
  }
}

export class Models {
  constructor(ask) {
    this.list = async (options) => (await ask('listModels', {}, options)).models;
    const change = async (method, name, options) => (await ask(method, { name }, { timeoutSeconds: 600, ...options })).model;
    this.load = (name, options) => change('loadModel', name, options);
    this.unload = (name, options) => change('unloadModel', name, options);
  }
}
